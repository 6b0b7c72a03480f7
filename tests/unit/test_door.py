"""The README's picture is what the bench's results say."""

from pathlib import Path

from bench.__main__ import RESULTS
from bench.door import CELLS, draw_door
from bench.results import Results, read

ROOT = Path(__file__).parents[2]


def test_the_picture_is_drawn_from_the_results(tmp_path: Path) -> None:
    """The same figures give the same file; every cell of it is measured."""
    found = read(RESULTS)

    assert draw_door(found, tmp_path / "one.svg")
    assert draw_door(found, tmp_path / "two.svg")

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    kept = (ROOT / "bench" / "plots" / "door.svg").read_text()
    for title in CELLS.values():
        assert title in kept


def test_without_results_there_is_no_picture(tmp_path: Path) -> None:
    """Rather than an empty one."""
    assert not draw_door(Results({}, {}), tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
