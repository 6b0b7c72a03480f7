"""What the documentation says to type works, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Reader, has, name

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```", re.MULTILINE)
_KNOWN = re.compile(r"file=\S+|run|fails|output|run=cluster|run=node|policy|cluster|selected|pod")
RUNNABLE = [page for page in PAGES if has(page, "run")]


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_what_a_page_says_to_run_runs(page: Path, tmp_path: Path) -> None:
    """Copy and paste, from the first block to the last."""
    assert Reader(tmp_path).follow(page) > 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_pages_and_headings_that_there_are(page: Path) -> None:
    """Those within the repository."""
    broken = []
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        exists = target.exists() and target.is_relative_to(ROOT)
        if not exists or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert broken == []


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    headings = _HEADING.findall(_CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_say_nothing_that_nobody_understands(page: Path) -> None:
    """A misspelt mark would leave a block untested."""
    words = re.findall(r"^```\S+[ \t]+([^\n]+)$", page.read_text(), re.MULTILINE)

    assert [w for line in words for w in line.split() if not _KNOWN.fullmatch(w)] == []
    assert len(_FENCE.findall(page.read_text())) % 2 == 0


def test_every_page_is_in_the_index() -> None:
    """A page that nobody finds is not read."""
    index = (ROOT / "docs" / "README.md").read_text()
    listed = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in _LINK.findall(index)}
    pages = {p for p in PAGES if p.parent.name != "design" and p.name != "README.md"}

    assert {name(p) for p in pages - listed} == set()
