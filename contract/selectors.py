"""Label selectors in kubectl's text form: ``tier in (free,trial), !legacy, owner!=platform``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_CHARS: Final = 2000

_KEY: Final = r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?"
_REQUIREMENT: Final = re.compile(
    rf"!\s*(?P<absent>{_KEY})"
    rf"|(?P<key>{_KEY})(?:\s*(?P<equality>==?|!=)\s*(?P<value>{_VALUE})"
    rf"|\s+(?P<membership>in|notin)\s*\((?P<values>\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*)\))?"
)
_COMMA_OUTSIDE_PARENTHESES: Final = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label must be."""

    key: str
    values: frozenset[str] | None
    """None: any value will do."""
    negated: bool
    """Also met by objects that do not have the label."""

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` meet it."""
        value = labels.get(self.key)
        found = value is not None and (self.values is None or value in self.values)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements together; without any it selects everything."""

    text: str
    requirements: tuple[Requirement, ...]

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with ``labels`` is selected."""
        return all(r.holds(labels) for r in self.requirements)


EVERYTHING: Final = Selector("", ())
NOTHING: Final = Selector("", (Requirement("", frozenset(), negated=False),))
"""Of a policy whose selector cannot be read."""


def parse_selector(text: str) -> Selector | None:
    """What ``text`` selects; None: it is no selector.

    The grammar is that of ``kubectl get -l`` without ``<`` and ``>``.
    """
    text = text.strip()
    if not text:
        return EVERYTHING
    if len(text) > MAX_CHARS:
        return None
    requirements = []
    for part in _COMMA_OUTSIDE_PARENTHESES.split(text):
        found = _REQUIREMENT.fullmatch(part.strip())
        if found is None:
            return None
        requirements.append(_requirement(found))
    return Selector(text, tuple(requirements))


def _requirement(found: re.Match[str]) -> Requirement:
    if found["absent"]:
        return Requirement(found["absent"], None, negated=True)
    if found["equality"]:
        return Requirement(
            found["key"], frozenset({found["value"]}), negated=found["equality"] == "!="
        )
    if found["membership"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], values, negated=found["membership"] == "notin")
    return Requirement(found["key"], None, negated=False)
