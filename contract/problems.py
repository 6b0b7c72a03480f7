"""A user's mistake is a value, not an exception: the key, the text, why not, what instead."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, worded for the person who made it."""

    key: str
    """The annotation, option or policy key at fault."""
    text: str
    """What was written there, unchanged."""
    reason: str
    """Why it cannot be used; a clause without a full stop."""
    fix: str
    """What to write instead; an imperative clause."""

    def __str__(self) -> str:
        return f'{self.key}: "{self.text}" {self.reason}; {self.fix}'
