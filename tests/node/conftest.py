"""One cluster of two real nodes for all tests here."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.build import bin_dir, unbuildable
from tests.images.build import missing_packages
from tests.needs import missing
from tests.node.cluster import Cluster, Say, running
from tests.node.images import image_store
from tests.node.product import install
from tests.node.rootfs import missing_programs, root_filesystem


@pytest.fixture(scope="package")
def say(request: pytest.FixtureRequest) -> Say:
    """Shows progress at once, past pytest's capturing: starting machines takes a minute."""
    manager = request.config.pluginmanager
    terminal = manager.getplugin("terminalreporter")
    capture = manager.getplugin("capturemanager")
    started = time.monotonic()

    def write(text: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"[{time.monotonic() - started:4.0f} s] {text}")

    return write


@pytest.fixture(scope="package")
def cluster(say: Say) -> Iterator[Cluster]:
    """Two nodes that are Ready; where they cannot be had, skips, or fails when CI=true."""
    if packages := missing_programs() + missing_packages():
        missing(f"needs {' '.join(packages)}: run `make test-node`")
    if why := unbuildable():
        missing(why)
    bin_dir()
    root = root_filesystem()
    images = image_store(root)
    # Not pytest's folder: that one is kept after the run, and disks are large.
    with (
        tempfile.TemporaryDirectory(prefix="podpace-nodes-") as folder,
        running(Path(folder), root, images, say) as started,
    ):
        yield started


@pytest.fixture(scope="package")
def podpace(cluster: Cluster) -> Cluster:
    """The nodes with Podpace installed; ``test_release.py``, the last one, takes it off."""
    install(cluster)
    return cluster
