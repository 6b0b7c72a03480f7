"""Keys that nobody knows: misspelt ones, which are refused, and others, which may be newer than we.

A refused key must be one that its author did not mean, or a newer version's words could not be
rolled out beside an older one. So only a near miss of a known key counts as a mistake.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

MAX_UNKNOWN: Final = 16
"""More unknown keys than that are refused without being looked at, one by one: looking costs."""
_LONGEST: Final = 64
"""No known key is nearly as long."""
_SHORT: Final = 8
"""Below that many letters one may be wrong, from there on two."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The unknown keys of one object."""

    misspelt: tuple[tuple[str, str], ...] = ()
    """Each with the key that was meant."""
    others: tuple[str, ...] = ()
    too_many: bool = False
    """More than ``MAX_UNKNOWN``; the first of them are in the other two."""


class Vocabulary:
    """Known keys, ready to be compared with others."""

    def __init__(self, keys: Sequence[str], prefix: str = "") -> None:
        """``prefix``: what all of them begin with, whoever spells them."""
        self._prefix = prefix
        self._spellings = tuple((_letters(key.removeprefix(prefix)), key) for key in keys)

    def nearest(self, key: str) -> str | None:
        """The known key that ``key`` is a misspelling of; None: of none.

        At most two letters left out, put in, exchanged or swapped, whatever the case and the signs
        between words.
        """
        if len(key) > _LONGEST:
            return None
        letters = _letters(key.removeprefix(self._prefix))
        allowed = 1 if len(letters) < _SHORT else 2
        found = [
            (distance, right)
            for known, right in self._spellings
            if abs(len(known) - len(letters)) <= allowed
            and (distance := _distance(letters, known, allowed)) <= allowed
        ]
        return min(found)[1] if found else None

    def sort(self, unknown: Iterable[str]) -> Unknown:
        """What to say of ``unknown`` keys; only the first few are looked at."""
        first = list(islice(unknown, MAX_UNKNOWN + 1))
        looked_at = first[:MAX_UNKNOWN]
        nearest = [(key, self.nearest(key)) for key in looked_at]
        return Unknown(
            tuple((key, right) for key, right in nearest if right is not None),
            tuple(key for key, right in nearest if right is None),
            len(first) > MAX_UNKNOWN,
        )


def _letters(key: str) -> str:
    return "".join(filter(str.isalnum, key)).lower()


def _distance(one: str, other: str, enough: int) -> int:
    """Damerau and Levenshtein's, each letter moved once at most; where it is above ``enough``, any
    number above that."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        earlier, before = before, row
        row = [i]
        for j, against in enumerate(other, start=1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > enough:
            return enough + 1
    return row[-1]
