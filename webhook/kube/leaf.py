"""This replica's own leaf, signed by the shared authority and kept in memory only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from certs.authority import LEAF_LIFETIME, KeyPair, expiry, issue_leaf, needs_renewal
from kube.errors import ApiError
from kube.ports import Api
from webhook.kube.authority import SharedAuthority, publish_bundle
from webhook.tls import LiveContext

POLL_SECONDS: Final = 10.0


@dataclass
class SelfManagedLeaf:
    """:meth:`step` keeps authority, caBundle and leaf as they should be."""

    api: Api
    authority: SharedAuthority
    live: LiveContext
    hosts: Sequence[str]
    configuration: str
    """The name that both webhook configurations have."""
    lifetime: timedelta = LEAF_LIFETIME
    poll_seconds: float = POLL_SECONDS
    _signer: KeyPair | None = field(default=None, init=False)
    _leaf: KeyPair | None = field(default=None, init=False)

    def step(self) -> float:
        """Returns the pause until the next step, in seconds.

        Raises:
            ApiError, CertificateError: what was loaded stays in use.
        """
        try:
            state = self.authority.current()
        except ApiError:
            # A leaf does not run out because the API server is away: the signer is known.
            if (known := self.authority.last_known()) is not None:
                self._renew_when_due(known.signer)
            raise
        self.live.trust = state.bundle
        if not self.live.loaded:
            # Trust is published next, but without a certificate there is nothing to lose.
            self._renew(state.signer)
        # First trust, then the leaf: a leaf of an authority that is not trusted fails.
        publish_bundle(self.api, self.configuration, state.bundle)
        if self._leaf is None or state.signer != self._signer:
            self._renew(state.signer)
        self._renew_when_due(state.signer)
        return self.poll_seconds

    def _renew_when_due(self, signer: KeyPair) -> None:
        now = self.authority.now()
        if (
            self._leaf is not None
            and needs_renewal(self._leaf.certificate, now)
            and expiry(signer.certificate) > now
        ):
            self._renew(signer)

    def _renew(self, signer: KeyPair) -> None:
        leaf = issue_leaf(signer, self.hosts, self.authority.now(), self.lifetime)
        self.live.load(leaf)
        self._leaf, self._signer = leaf, signer


def service_hosts(service: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Every name under which a Service is called."""
    qualified = f"{service}.{namespace}"
    return (f"{qualified}.svc", service, qualified, f"{qualified}.svc.{cluster_domain}")
