"""One engine's images for all tests here: built once, on a base made on this machine."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.images.build import (
    IMAGES,
    REPOSITORY,
    base_image,
    build_images,
    kept_engine,
    missing_packages,
)
from tests.images.engine import Engine, running
from tests.needs import missing

__all__ = ["IMAGES", "REPOSITORY", "SAMPLE"]
SAMPLE: Final = "podpace-sample:test"
"""iperf3 and ping: for traffic."""


@pytest.fixture(scope="session")
def built() -> Iterator[Engine]:
    """A stopped engine that holds our images."""
    if packages := missing_packages():
        missing(f"needs {' '.join(packages)}; run: make test-images")
    with kept_engine() as engine:
        with running(engine, for_builds=True):
            build_images(engine)
            base = ("--build-arg", f"BASE={base_image(engine)}")
            engine.build(*base, "-t", SAMPLE, str(REPOSITORY / "tests/dev"))
        yield engine


@pytest.fixture(scope="session")
def engine(built: Engine) -> Iterator[Engine]:
    """The engine with our images, on a network of its own."""
    with running(built, for_builds=False):
        yield built
