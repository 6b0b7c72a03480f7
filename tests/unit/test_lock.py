"""What the images install is pinned, by version and by the hashes of the files."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.images.lock import EXTRAS, REPOSITORY, lock_file, ranges

IMAGES = sorted(EXTRAS)


def pins(image: str) -> dict[str, tuple[str, int]]:
    """Of each pinned package its version and how many hashes it has."""
    found = {}
    for entry in re.split(
        r"\n(?=\S)", re.sub(r"^#.*\n", "", lock_file(image).read_text(), flags=re.M)
    ):
        pinned = Requirement(entry.split("\\")[0].strip())
        (exact,) = pinned.specifier
        assert exact.operator == "==", entry
        hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry))
        found[canonicalize_name(pinned.name)] = (exact.version, hashes)
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_every_range_has_a_pin_within_it(image: str) -> None:
    """A range that was changed in pyproject.toml and not locked again fails here."""
    locked = pins(image)
    for text in ranges(image):
        wanted = Requirement(text)
        version, _ = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{text}: {version} is locked; run: make lock"


@pytest.mark.parametrize("image", IMAGES)
def test_every_pin_has_hashes(image: str) -> None:
    """No package is installed whose file is not known."""
    assert [name for name, (_, hashes) in pins(image).items() if not hashes] == []


def test_both_images_hold_the_same_versions() -> None:
    """What is in both images is one version: a fault in it is mended in both or in none."""
    webhook, enforcer = pins("webhook"), pins("enforcer")
    assert {n: enforcer[n] for n in enforcer} == {n: webhook[n] for n in enforcer}


@pytest.mark.parametrize("image", IMAGES)
def test_a_dockerfile_installs_nothing_that_is_not_pinned(image: str) -> None:
    """Each pip in a Dockerfile either demands hashes or fetches nothing at all."""
    content = Path(REPOSITORY / image / "Dockerfile").read_text()
    installs = re.findall(r"pip install (.*?)(?: \\)?\n", content)
    assert len(installs) == 2
    for options in installs:
        fetches_nothing = {"--no-deps", "--no-build-isolation", "."} <= set(options.split())
        assert fetches_nothing or "--require-hashes" in options, options
