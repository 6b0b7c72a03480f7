"""A daemon in a process of its own, with a fake kernel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import Daemon, enforcer, fake_machine


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """It knows the cgroup ``/pod``."""
    (fake_machine(tmp_path) / "pod").mkdir()
    with enforcer(tmp_path) as running:
        yield running
