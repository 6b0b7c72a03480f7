"""What the webhook counts. Prefix ``podpace_``; base units; no label a user can grow."""

from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contract.names import Source

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5)


class Metrics:
    """All of the webhook's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "podpace_admission_requests",
            "Admission requests by route, operation and result (allowed, denied, unusable).",
            ("route", "operation", "result"),
            registry=self.registry,
        )
        # Looking a series up by its labels costs more than counting in it.
        self.count_request = lru_cache(maxsize=64)(self.requests.labels)
        self.duration = Histogram(
            "podpace_admission_duration_seconds",
            "Time to answer an admission request, without network and TLS.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.limit_source = Counter(
            "podpace_admission_limits",
            "Admitted limited pods by where the limit came from.",
            ("source",),
            registry=self.registry,
        )
        self.bad_policy = Gauge(
            "podpace_policy_bad",
            "1 for a policy whose latest version is bad; the last good one is in force.",
            ("namespace", "policy"),
            registry=self.registry,
        )
        self.cluster_policies = Gauge(
            "podpace_cluster_policies",
            "Policies of the cluster that say something.",
            registry=self.registry,
        )
        self.policies_changed = Gauge(
            "podpace_policy_last_change_timestamp_seconds",
            "When a policy last came in force.",
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "podpace_webhook_certificate_expiry_timestamp_seconds",
            "When the serving certificate expires.",
            registry=self.registry,
        )
        self.audited = Counter(
            "podpace_audit_pods",
            "Running pods that did not follow, by what came of it (labelled, failed, raced).",
            ("result",),
            registry=self.registry,
        )
        self.audit_waiting = Gauge(
            "podpace_audit_waiting_pods",
            "Running pods that do not follow and are to be corrected.",
            registry=self.registry,
        )
        self.leader = Gauge(
            "podpace_audit_leader", "1 in the replica that audits.", registry=self.registry
        )
        self.watch_restarts = Counter(
            "podpace_watch_restarts",
            "Watches of the API server that had to be started again, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.loop_success = Gauge(
            "podpace_loop_last_success_timestamp_seconds",
            "When a loop in the background last went well.",
            ("loop",),
            registry=self.registry,
        )
        self.loop_failures = Counter(
            "podpace_loop_failures",
            "Failed steps of a loop in the background; each is tried again.",
            ("loop",),
            registry=self.registry,
        )
        # A series that appears with its first event hides that event from rate() and increase().
        for source in Source:
            self.limit_source.labels(source)
        for result in ("labelled", "failed", "raced"):
            self.audited.labels(result)
        for reason in ("expired", "error"):
            self.watch_restarts.labels(reason)
