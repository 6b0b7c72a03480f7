"""For every test."""

import signal


def pytest_configure() -> None:
    """A shell's background job ignores these two, and so would every process of the tests."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
