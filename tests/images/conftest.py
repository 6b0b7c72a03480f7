"""One engine's images for all tests here: built once, on a base made on this machine."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.images.base import base_tar
from tests.images.engine import Engine, running
from tests.needs import missing

REPOSITORY: Final = Path(__file__).parents[2]
BASE: Final = "podpace-base:bookworm"
SAMPLE: Final = "podpace-sample:test"
"""iperf3 and ping: for traffic."""
IMAGES: Final = {"webhook": "podpace-webhook:test", "enforcer": "podpace-enforcer:test"}


@pytest.fixture(scope="session")
def built() -> Iterator[Engine]:
    """A stopped engine that holds our images."""
    for command in ("dockerd", "docker", "debootstrap"):
        if shutil.which(command) is None:
            missing(f"needs {command}; run: make setup")
    # Not pytest's folder: a socket's path may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="podpace-engine-"))
    engine = Engine(folder)
    try:
        with running(engine, for_builds=True):
            engine.docker("import", str(base_tar()), BASE)
            for name, tag in IMAGES.items():
                engine.build(
                    "--build-arg", f"BASE={BASE}", "-f", f"{name}/Dockerfile", "-t", tag,
                    str(REPOSITORY),
                )  # fmt: skip
            engine.build("--build-arg", f"BASE={BASE}", "-t", SAMPLE, str(REPOSITORY / "tests/dev"))
        yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def engine(built: Engine) -> Iterator[Engine]:
    """The engine with our images, on a network of its own."""
    with running(built, for_builds=False):
        yield built
