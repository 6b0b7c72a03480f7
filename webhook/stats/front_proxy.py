"""Who may connect: the API server, which shows the front proxy's certificate.

What it is checked against is in a ConfigMap that the API server keeps, as for every aggregated API.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Final

from kube.ports import Api
from webhook.errors import CertificateError
from webhook.kube.authority import publish_to_aggregator
from webhook.tls import LiveContext

_CONFIG_MAP: Final = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
POLL_SECONDS: Final = 10.0


@dataclass
class FrontProxy:
    """:meth:`step` keeps authority, names and our own certificate as they are, and the bundle that
    the API server checks that certificate against.

    Before the first step, and where the API server has no front proxy, nobody can connect.
    """

    api: Api
    live: LiveContext
    context: ssl.SSLContext = field(default_factory=lambda: _closed(ssl.TLSVersion.TLSv1_3))
    """For the next handshake; those that were made stay."""
    _names: frozenset[str] = frozenset()
    """Empty: any of that authority."""
    _in_use: object = None

    def step(self) -> float:
        """Returns the pause until the next look.

        Raises:
            ApiError, CertificateError: what was known stays in use.
        """
        if self.live.trust is not None:
            publish_to_aggregator(self.api, self.live.trust)
        data = self.api.get(_CONFIG_MAP).get("data") or {}
        authority = data.get("requestheader-client-ca-file", "")
        names = frozenset(_list(data.get("requestheader-allowed-names", "")))
        pair = self.live.pair
        found = (authority, names, pair)
        if found == self._in_use:
            return POLL_SECONDS
        if not authority:
            message = (
                "the API server has no front proxy (--requestheader-client-ca-file), so nobody may "
                "connect; set stats.enabled to false"
            )
            raise CertificateError(message)
        context = _closed(self.live.context.minimum_version)
        try:
            context.load_verify_locations(cadata=authority)
        except (ssl.SSLError, ValueError) as error:
            message = f"the front proxy's authority cannot be read: {error}"
            raise CertificateError(message) from error
        if pair is None:
            return 1.0
        self.live.load_into(context, pair)
        # The names first: a connection of the new authority is not judged by the old ones.
        self._names, self.context, self._in_use = names, context, found
        return POLL_SECONDS

    def admits(self, transport: asyncio.BaseTransport) -> bool:
        """Whether the name in a certificate that was verified is one of a front proxy."""
        subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
        names = {value for part in subject for key, value in part if key == "commonName"}
        return bool(names) and (not self._names or not names.isdisjoint(self._names))


def _closed(minimum: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _list(text: str) -> list[str]:
    try:
        found: Any = json.loads(text or "[]")
    except ValueError as error:
        message = f"requestheader-allowed-names is no list: {text[:100]}"
        raise CertificateError(message) from error
    return [str(name) for name in found]
