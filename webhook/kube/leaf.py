"""This replica's own leaf, signed by the shared authority and kept in memory only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from certs.authority import LEAF_LIFETIME, KeyPair, issue_leaf, needs_renewal, utc_now
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
        state = self.authority.current()
        if not self.live.loaded:
            # Trust is published next, but without a certificate there is nothing to lose.
            self._renew(state.signer)
        # First trust, then the leaf: a leaf of an authority that is not trusted fails.
        publish_bundle(self.api, self.configuration, state.bundle)
        if self._leaf is None or state.signer != self._signer or self._due(self._leaf):
            self._renew(state.signer)
        return self.poll_seconds

    def _due(self, leaf: KeyPair) -> bool:
        return needs_renewal(leaf.certificate, utc_now())

    def _renew(self, signer: KeyPair) -> None:
        leaf = issue_leaf(signer, self.hosts, utc_now(), self.lifetime)
        self.live.load(leaf)
        self._leaf, self._signer = leaf, signer


def service_hosts(service: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Every name under which a Service is called."""
    qualified = f"{service}.{namespace}"
    return (f"{qualified}.svc", service, qualified, f"{qualified}.svc.{cluster_domain}")
