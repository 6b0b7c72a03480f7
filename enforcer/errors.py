"""Errors of the enforcer; those of the API server are in ``kube.errors``.

EnforcerError
├── DatapathError          the kernel refused; nothing is half-attached
│   └── UnsupportedError   this kernel or machine lacks something; says what to do
└── RefusedError           a request that cannot be served; carries Problems
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
