"""Without helm there is nothing to test."""

import pytest

from tests.cluster.build import unbuildable
from tests.needs import missing


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    """Skips where helm cannot be built; fails when CI=true."""
    if why := unbuildable():
        missing(why)
