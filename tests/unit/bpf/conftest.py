"""The arithmetic, compiled once."""

import pytest

from tests.unit.bpf.arithmetic import Arithmetic, build


@pytest.fixture(scope="session")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Arithmetic:
    """bpf/bucket.h and bpf/controller.h."""
    return build(tmp_path_factory.mktemp("arithmetic"))
