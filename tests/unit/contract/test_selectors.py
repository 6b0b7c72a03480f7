"""Label selectors as kubectl takes them."""

import pytest

from contract.selectors import MAX_CHARS, parse_selector

LABELS = {"tier": "free", "podpace.io/x": "1", "empty": ""}

SELECTS: list[tuple[str, bool]] = [
    ("", True),
    ("  ", True),
    ("tier", True),
    ("team", False),
    ("!team", True),
    ("! tier", False),
    ("tier=free", True),
    ("tier==free", True),
    ("tier = paid", False),
    ("tier!=paid", True),
    ("tier!=free", False),
    ("team!=x", True),
    ("tier in (free,trial)", True),
    ("tier in ( trial , free )", True),
    ("tier in(free)", True),
    ("tier in (paid)", False),
    ("team in (x)", False),
    ("tier notin (free)", False),
    ("tier notin (paid,x)", True),
    ("team notin (x)", True),
    ("empty=", True),
    ("empty in (,a)", True),
    ("tier=free,podpace.io/x=1", True),
    ("tier in (free,trial), !team, podpace.io/x notin (2,3)", True),
    ("tier in (free,trial),team", False),
]
WRONG = [
    "tier in free",
    "tier in (free",
    "tier in free)",
    "in (a)",
    "tier in",
    "tier=free,",
    ",tier",
    "tier=a b",
    "tier>3",
    "-tier",
    "tier=-a",
    "a/b/c",
    "A.io/x",
    "tier=free;team",
    "tier in (a))",
    "tier in ((a)",
    "tier===a",
    "!tier=a",
    "tier = free or team",
    "x" * (MAX_CHARS + 1),
    "," * MAX_CHARS,
    "(" * MAX_CHARS,
    "a" + "-" * (MAX_CHARS - 1),
]


@pytest.mark.parametrize(("text", "selected"), SELECTS)
def test_a_selector_selects_what_kubectl_s_selects(text: str, selected: bool) -> None:
    """Labels that are absent meet ``!=``, ``notin`` and ``!``."""
    selector = parse_selector(text)

    assert selector is not None
    assert selector.selects(LABELS) is selected
    assert selector.text == text.strip()


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_selector_is_none(text: str) -> None:
    """It selects neither everything nor something by accident."""
    assert parse_selector(text) is None
