"""Errors of the webhook; those of the API server are in ``kube.errors``.

WebhookError
└── CertificateError         a certificate or key cannot be used; the one in use stays in use
"""


class WebhookError(Exception):
    """Base of all."""


class CertificateError(WebhookError):
    """A certificate or key cannot be used. The message says which and what to do."""
