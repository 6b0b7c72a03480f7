"""Command lines as kubectl reads them, where our own parser reads them otherwise."""

import re
from collections.abc import Iterable
from typing import Final

_SHORT: Final = re.compile(r"(-[nlof])=(.*)", re.DOTALL)


def as_kubectl(arguments: Iterable[str]) -> list[str]:
    """``-n=prod`` as ``-n prod``; click would look into the namespace ``=prod``."""
    given = list(arguments)
    end = given.index("--") if "--" in given else len(given)
    read: list[str] = []
    for argument in given[:end]:
        short = _SHORT.fullmatch(argument)
        read += short.groups() if short else (argument,)
    return read + given[end:]
