"""Errors of the enforcer.

EnforcerError
├── DatapathError          the kernel refused; nothing is half-attached
│   └── UnsupportedError   this kernel or machine lacks something; says what to do
├── RefusedError           a request that cannot be served; carries Problems
└── ApiError               the API server refused, or did not answer
    └── ExpiredError       it does not remember that far back (410): list again
"""

from contract.problems import Problem


class EnforcerError(Exception):
    """Base of all."""


class DatapathError(EnforcerError):
    """The kernel refused an operation. The message says which, and what to do next."""


class UnsupportedError(DatapathError):
    """Something is missing on this machine. The message says what and how to get it."""


class RefusedError(EnforcerError):
    """A request that cannot be served."""

    def __init__(self, status: int, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.status = status
        """HTTP status: 404, 409 or 422 (see contract.api)."""
        self.problems = problems


class ApiError(EnforcerError):
    """The API server refused, or did not answer; limits that are in force stay."""

    def __init__(self, message: str, status: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0 when there was no answer."""
        self.retry_after_seconds = retry_after_seconds
        """What the server asks to wait at least."""


class ExpiredError(ApiError):
    """The version to watch from is too old."""
