"""An API server in memory."""

import pytest

from tests.unit.webhook.fake_api import FakeApi


@pytest.fixture
def api() -> FakeApi:
    """An empty API server."""
    return FakeApi()
