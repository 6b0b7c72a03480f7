"""Errors of the webhook.

WebhookError
├── CertificateError         a certificate or key cannot be used; the one in use stays in use
└── ApiError                 the API server refused or could not be reached; carries the status
    ├── NotFoundError        404
    ├── ConflictError        409: somebody was faster; read again
    └── GoneError            410: the version is too old; list again
"""


class WebhookError(Exception):
    """Base of all."""


class CertificateError(WebhookError):
    """A certificate or key cannot be used. The message says which and what to do."""


class ApiError(WebhookError):
    """A request to the API server failed; ``status`` is 0 when it was not reached."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(ApiError):
    """The object does not exist."""


class ConflictError(ApiError):
    """The object exists already, or has changed since it was read."""


class GoneError(ApiError):
    """The resource version is too old to watch from."""
