"""Errors of requests to an API server.

NoClusterError       neither address nor credentials
ApiError             the API server refused or could not be reached; carries the status
├── NotFoundError    404
├── ConflictError    409: somebody was faster; read again
└── GoneError        410: the version is too old; list again
"""


class NoClusterError(Exception):
    """Neither address nor credentials of an API server; the message says what was looked at."""


class ApiError(Exception):
    """A request to the API server failed."""

    def __init__(
        self, reason: str, status: int = 0, retry_after_seconds: float = 0.0, request: str = ""
    ) -> None:
        said = f"{status} {reason}" if status else reason
        super().__init__(f"{request}: {said}" if request else said)
        self.reason = reason
        """What the server says, or what kept it from answering."""
        self.status = status
        """HTTP status; 0 when there was no answer."""
        self.retry_after_seconds = retry_after_seconds
        """What the server asks to wait at least."""


class NotFoundError(ApiError):
    """The object does not exist."""


class ConflictError(ApiError):
    """The object exists already, or has changed since it was read."""


class GoneError(ApiError):
    """The resource version is too old to go on from."""
