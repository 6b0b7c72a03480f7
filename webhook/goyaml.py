"""YAML as kubectl and the API server read it: what is a number there is one here.

They use go-yaml 2 (sigs.k8s.io/yaml): YAML 1.1 in words such as ``yes``, but ``1e6`` and ``0o7``
are numbers, ``12:30`` is a text, and so is a date. Source: resolve.go there.
"""

import re
from collections.abc import Hashable, Iterator
from typing import Any, Final

import yaml

_TRUE: Final = frozenset(
    form(word) for word in ("y", "yes", "true", "on") for form in (str, str.title, str.upper)
)
_FALSE: Final = frozenset(
    form(word) for word in ("n", "no", "false", "off") for form in (str, str.title, str.upper)
)
_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_SPECIAL: Final = re.compile(r"[+-]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INT: Final = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[+-]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MOST_DIGITS: Final = 100
_TAG: Final = "tag:yaml.org,2002:"
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def kind_of(text: str) -> str:
    """What a scalar without quotes is: str, bool, null, int, float or merge."""
    if text in _TRUE or text in _FALSE:
        return "bool"
    if text in _NULL:
        return "null"
    if text == "<<":
        return "merge"
    if _SPECIAL.fullmatch(text):
        return "float"
    # Between digits, and only there, underscores are left out.
    plain = text.replace("_", "") if text[:1].isdigit() or text[:1] in "+-" else text
    if _INT.fullmatch(plain):
        return "int"
    return "float" if _FLOAT.fullmatch(plain) else "str"


class Loader(_BASE):  # type: ignore[misc]
    """Reads documents, and keeps which keys are written twice in one mapping; the last counts."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def resolve(self, kind: type[Any], value: Any, implicit: Any) -> str:
        """A scalar's tag; ``implicit[0]``: it has neither quotes nor a tag."""
        if kind is yaml.ScalarNode and implicit[0]:
            return _TAG + kind_of(value)
        tag: str = super().resolve(kind, value, implicit)
        return tag

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """As the base does."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    self.twice.append(f"{key.value} (line {key.start_mark.line + 1})")
                seen.add(key.value)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found


def _construct_float(_: Loader, node: Any) -> float:
    try:
        return float(node.value.replace("_", ""))
    except ValueError:
        # Infinities, as YAML spells them: that it is no text is all that counts.
        return 0.0


def _construct_int(_: Loader, node: Any) -> float:
    """Quantities and replicas may be numbers; no sensible one has more digits."""
    digits = node.value.replace("_", "").lower()
    octal = re.sub(r"^([+-]?)0o?([0-7]+)$", r"\g<1>0o\2", digits)
    try:
        return int(octal, 0) if len(digits) <= _MOST_DIGITS else 0.0
    except ValueError:
        return 0.0


def _construct_bool(_: Loader, node: Any) -> bool:
    return node.value in _TRUE


Loader.add_constructor(f"{_TAG}int", _construct_int)
Loader.add_constructor(f"{_TAG}float", _construct_float)
Loader.add_constructor(f"{_TAG}bool", _construct_bool)


def read_documents(text: str) -> Iterator[tuple[object, tuple[str, ...]]]:
    """Each document, and which of its keys are written twice.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML.
    """
    loader = Loader(text)
    try:
        while loader.check_data():
            document = loader.get_data()
            yield document, tuple(loader.twice)
            loader.twice = []
    finally:
        loader.dispose()
