"""A user's mistake is a value, not an exception: the key, the text, why not, what instead."""

from dataclasses import dataclass, replace
from typing import Final

KEY_CHARS: Final = 100
TEXT_CHARS: Final = 80
"""Enough to find the place; who wrote megabytes is not sent them back."""


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

    def shortened(self) -> "Problem":
        """The same with key and text cut to what is told."""
        if len(self.key) <= KEY_CHARS and len(self.text) <= TEXT_CHARS:
            return self
        return replace(self, key=clip(self.key, KEY_CHARS), text=clip(self.text, TEXT_CHARS))


def clip(text: str, chars: int) -> str:
    """``text``, cut to ``chars`` with an ellipsis."""
    return text if len(text) <= chars else text[: chars - 1] + "…"
