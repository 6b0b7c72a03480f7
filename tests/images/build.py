"""Both images, built on a base made here, by an engine that keeps its layers between runs."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.debian import cache_dir
from tests.images.base import base_tar
from tests.images.engine import Engine

REPOSITORY: Final = Path(__file__).parents[2]
IMAGES: Final = {"webhook": "podpace-webhook:test", "enforcer": "podpace-enforcer:test"}
_PROGRAMS: Final = {"dockerd": "docker.io", "docker": "docker.io", "debootstrap": "debootstrap"}


def missing_packages() -> list[str]:
    """Debian packages to install before this can work."""
    return sorted({p for program, p in _PROGRAMS.items() if shutil.which(program) is None})


@contextlib.contextmanager
def kept_engine() -> Iterator[Engine]:
    """The stopped engine; one user at a time."""
    # Not below a test's folder: a socket's path may have 107 characters.
    folder = cache_dir() / "engine"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Engine(folder)


def base_image(engine: Engine) -> str:
    """The name of the base, imported when it is not there yet; the engine runs."""
    tar = base_tar()
    name = f"podpace-{tar.stem.replace('-', ':')}"
    if engine.docker("image", "inspect", name, check=False).returncode:
        engine.docker("import", str(tar), name)
    return name


def build_images(engine: Engine) -> None:
    """Build what changed; the engine runs for builds."""
    # What a run that was killed left would be in the way.
    for kind in ("container", "network"):
        engine.docker(kind, "prune", "--force")
    base = base_image(engine)
    for name, tag in IMAGES.items():
        options = ("--build-arg", f"BASE={base}", "-f", f"{name}/Dockerfile", "-t", tag)
        engine.build(*options, str(REPOSITORY))
