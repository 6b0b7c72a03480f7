"""How this process runs; every field comes from an option of ``podpace-webhook serve``."""

from dataclasses import dataclass
from pathlib import Path
from ssl import TLSVersion

from webhook.reach import LINUX, Placement


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are in seconds."""

    host: str = "0.0.0.0"
    port: int = 8443
    """Admission, over TLS."""
    health_port: int = 8080
    """Health and metrics, plain."""
    stats_port: int = 0
    """The aggregated API, over TLS, for the API server alone; 0: it is not served."""
    release_namespace: str = "podpace-system"
    """Where the cluster's policy, the CA Secret and the lease are."""
    service: str = "podpace-webhook"
    """The Service's name; the leaf is valid for it, and the Secret and the Lease begin with it."""
    cluster_domain: str = "cluster.local"
    configuration: str = "podpace"
    """The name of both webhook configurations, which get the caBundle."""
    extra_hosts: tuple[str, ...] = ()
    """More names and addresses for the leaf."""
    kubeconfig: str | None = None
    """None: the service account of the pod."""
    policy_dir: Path | None = None
    """Policies from here instead of a cluster."""
    tls_cert: Path | None = None
    """Certificate and key from files (cert-manager, an own Secret) instead of an own authority."""
    tls_key: Path | None = None
    tls_minimum: TLSVersion = TLSVersion.TLSv1_3
    drain_seconds: float = 15.0
    """How long to serve on after SIGTERM; longer than endpoints take to spread."""
    audit_seconds: float = 60.0
    """Between two looks for pods whose labels do not follow; 0 is never."""
    exempt_namespaces: tuple[str, ...] = ()
    """Left out of the audit, besides those that always are."""
    enforcer_nodes: Placement = LINUX
    """Where the enforcers are: a pod that no such node takes gets no readiness gate."""
    ca_overlap_seconds: float = 600.0
    """How long a new authority is trusted before it signs."""
    leaf_days: float = 7.0
    certificate_poll_seconds: float = 10.0
    """Between two looks at authority, caBundle and leaf."""
