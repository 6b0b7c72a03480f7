"""Every name that crosses a process boundary. No other file spells one of these."""

from enum import StrEnum
from typing import Final

DOMAIN: Final = "podpace.io"

# Annotations, written by people: Kubernetes quantities, limits in bits per second, bursts in bits.
ANNOTATION_INGRESS_BANDWIDTH: Final = f"{DOMAIN}/ingress-bandwidth"
ANNOTATION_EGRESS_BANDWIDTH: Final = f"{DOMAIN}/egress-bandwidth"
ANNOTATION_INGRESS_BURST: Final = f"{DOMAIN}/ingress-burst"
ANNOTATION_EGRESS_BURST: Final = f"{DOMAIN}/egress-burst"
ANNOTATION_INGRESS_REQUEST: Final = f"{DOMAIN}/ingress-request"
ANNOTATION_EGRESS_REQUEST: Final = f"{DOMAIN}/egress-request"
ANNOTATION_READINESS_GATE: Final = f"{DOMAIN}/readiness-gate"
# Written by the webhook beside the labels, whose values cannot hold a slash: the networks of the
# policy's exempt-cidrs, canonical, comma-separated. Like the labels it is rewritten when edited.
ANNOTATION_EXEMPT_CIDRS: Final = f"{DOMAIN}/exempt-cidrs"
# The de-facto standard keys, honoured as input; ours win.
ANNOTATION_KUBERNETES_INGRESS_BANDWIDTH: Final = "kubernetes.io/ingress-bandwidth"
ANNOTATION_KUBERNETES_EGRESS_BANDWIDTH: Final = "kubernetes.io/egress-bandwidth"

# On a Node, written by people: what its pods can share, bits per second.
ANNOTATION_INGRESS_CAPACITY: Final = f"{DOMAIN}/ingress-capacity"
ANNOTATION_EGRESS_CAPACITY: Final = f"{DOMAIN}/egress-capacity"

# Extended resources, bits per second: what a Node has of them, and what containers book.
RESOURCE_INGRESS: Final = f"{DOMAIN}/ingress"
RESOURCE_EGRESS: Final = f"{DOMAIN}/egress"

# Labels, written by the webhook, read by the enforcer. Plain decimal integers.
LABEL_LIMITED: Final = f"{DOMAIN}/limited"
LABEL_INGRESS_BITS_PER_SECOND: Final = f"{DOMAIN}/ingress-bits-per-second"
LABEL_EGRESS_BITS_PER_SECOND: Final = f"{DOMAIN}/egress-bits-per-second"
LABEL_INGRESS_BURST_BITS: Final = f"{DOMAIN}/ingress-burst-bits"
LABEL_EGRESS_BURST_BITS: Final = f"{DOMAIN}/egress-burst-bits"
LABEL_INGRESS_REQUEST_BITS_PER_SECOND: Final = f"{DOMAIN}/ingress-request-bits-per-second"
LABEL_EGRESS_REQUEST_BITS_PER_SECOND: Final = f"{DOMAIN}/egress-request-bits-per-second"
# The namespace's total on each node; every pod of the namespace carries it, and where they differ
# the smallest holds.
LABEL_INGRESS_TOTAL_BITS_PER_SECOND: Final = f"{DOMAIN}/ingress-total-bits-per-second"
LABEL_EGRESS_TOTAL_BITS_PER_SECOND: Final = f"{DOMAIN}/egress-total-bits-per-second"
# What the scheduler has booked for the pod, as it sums its containers; never changed while it runs.
LABEL_INGRESS_BOOKED_BITS_PER_SECOND: Final = f"{DOMAIN}/ingress-booked-bits-per-second"
LABEL_EGRESS_BOOKED_BITS_PER_SECOND: Final = f"{DOMAIN}/egress-booked-bits-per-second"
# The directions that the webhook booked, joined by an underscore; other bookings are the pod's own.
LABEL_BOOKED_BY_WEBHOOK: Final = f"{DOMAIN}/booked-by-webhook"
LABEL_SOURCE: Final = f"{DOMAIN}/source"
LABEL_MODE: Final = f"{DOMAIN}/mode"

# The API's image of a static pod, which only the kubelet may write.
ANNOTATION_MIRROR: Final = "kubernetes.io/config.mirror"

OUR_LABELS: Final = frozenset(
    (
        LABEL_LIMITED,
        LABEL_INGRESS_BITS_PER_SECOND,
        LABEL_EGRESS_BITS_PER_SECOND,
        LABEL_INGRESS_BURST_BITS,
        LABEL_EGRESS_BURST_BITS,
        LABEL_INGRESS_REQUEST_BITS_PER_SECOND,
        LABEL_EGRESS_REQUEST_BITS_PER_SECOND,
        LABEL_INGRESS_TOTAL_BITS_PER_SECOND,
        LABEL_EGRESS_TOTAL_BITS_PER_SECOND,
        LABEL_INGRESS_BOOKED_BITS_PER_SECOND,
        LABEL_EGRESS_BOOKED_BITS_PER_SECOND,
        LABEL_BOOKED_BY_WEBHOOK,
        LABEL_SOURCE,
        LABEL_MODE,
    )
)

# The pod condition, written by the enforcer.
CONDITION_BANDWIDTH_ENFORCED: Final = f"{DOMAIN}/BandwidthEnforced"
NO_LIMIT_MESSAGE: Final = "no limit is asked for"
"""How the condition begins of a pod that waits for it and asks for nothing any more."""

# Policy: a ConfigMap of this name in a namespace, and one in the release namespace for the cluster.
POLICY_CONFIG_MAP: Final = "podpace-policy"
# Further ones of the cluster: ConfigMaps of the release namespace with this label and value.
LABEL_POLICY: Final = f"{DOMAIN}/policy"
LABEL_POLICY_VALUE: Final = "true"
# On a policy of the cluster: deleting or emptying it is meant.
ANNOTATION_ALLOW_REMOVAL: Final = f"{DOMAIN}/allow-removal"
# Its keys. The first eight follow a direction and a dot: ``ingress.max``.
POLICY_DEFAULT: Final = "default"
POLICY_MIN: Final = "min"
POLICY_MAX: Final = "max"
POLICY_BURST_MAX: Final = "burst.max"
POLICY_REQUEST_DEFAULT: Final = "request.default"
POLICY_REQUEST_MIN: Final = "request.min"
POLICY_REQUEST_MAX: Final = "request.max"
POLICY_TOTAL_PER_NODE: Final = "total-per-node"
POLICY_ON_VIOLATION: Final = "on-violation"
POLICY_REQUIRE: Final = "require"
POLICY_TAKE_OVER: Final = "take-over"
POLICY_SCHEDULE: Final = "schedule"
POLICY_MODE: Final = "mode"
POLICY_READINESS_GATE: Final = "readiness-gate"
POLICY_EXEMPT_CIDRS: Final = "exempt-cidrs"
# Of the cluster's policies only.
POLICY_NAMESPACE_SELECTOR: Final = "namespace-selector"
POLICY_PRIORITY: Final = "priority"

# On the Secret of the webhook's certificate authority: begins a rotation now, whatever the value.
ANNOTATION_ROTATE: Final = f"{DOMAIN}/rotate"
# On the DaemonSet that cleans its nodes at an uninstall: those where no enforcer ever started.
ANNOTATION_NODES_WITHOUT_ENFORCER: Final = f"{DOMAIN}/nodes-without-enforcer"

# The label that takes a namespace out of admission altogether; who may set it decides who may
# be unlimited.
LABEL_NAMESPACE_IGNORE: Final = f"{DOMAIN}/ignore"
# Namespaces that are out of it whatever their labels say; the release namespace is another.
ALWAYS_EXEMPT_NAMESPACES: Final = frozenset({"kube-system", "kube-node-lease"})


class Direction(StrEnum):
    """Seen from the pod: ingress is what it receives."""

    INGRESS = "ingress"
    EGRESS = "egress"


DIRECTIONS: Final = tuple(Direction)
"""Walking an enum makes a generator each time; this is on the path of every review."""
RATE_KEYS: Final = {
    Direction.INGRESS: ANNOTATION_INGRESS_BANDWIDTH,
    Direction.EGRESS: ANNOTATION_EGRESS_BANDWIDTH,
}
STANDARD_RATE_KEYS: Final = {
    Direction.INGRESS: ANNOTATION_KUBERNETES_INGRESS_BANDWIDTH,
    Direction.EGRESS: ANNOTATION_KUBERNETES_EGRESS_BANDWIDTH,
}
BURST_KEYS: Final = {
    Direction.INGRESS: ANNOTATION_INGRESS_BURST,
    Direction.EGRESS: ANNOTATION_EGRESS_BURST,
}
REQUEST_KEYS: Final = {
    Direction.INGRESS: ANNOTATION_INGRESS_REQUEST,
    Direction.EGRESS: ANNOTATION_EGRESS_REQUEST,
}
CAPACITY_KEYS: Final = {
    Direction.INGRESS: ANNOTATION_INGRESS_CAPACITY,
    Direction.EGRESS: ANNOTATION_EGRESS_CAPACITY,
}
RATE_LABELS: Final = {
    Direction.INGRESS: LABEL_INGRESS_BITS_PER_SECOND,
    Direction.EGRESS: LABEL_EGRESS_BITS_PER_SECOND,
}
BURST_LABELS: Final = {
    Direction.INGRESS: LABEL_INGRESS_BURST_BITS,
    Direction.EGRESS: LABEL_EGRESS_BURST_BITS,
}
REQUEST_LABELS: Final = {
    Direction.INGRESS: LABEL_INGRESS_REQUEST_BITS_PER_SECOND,
    Direction.EGRESS: LABEL_EGRESS_REQUEST_BITS_PER_SECOND,
}
TOTAL_LABELS: Final = {
    Direction.INGRESS: LABEL_INGRESS_TOTAL_BITS_PER_SECOND,
    Direction.EGRESS: LABEL_EGRESS_TOTAL_BITS_PER_SECOND,
}

BOOKED_LABELS: Final = {
    Direction.INGRESS: LABEL_INGRESS_BOOKED_BITS_PER_SECOND,
    Direction.EGRESS: LABEL_EGRESS_BOOKED_BITS_PER_SECOND,
}
RESOURCES: Final = {
    Direction.INGRESS: RESOURCE_INGRESS,
    Direction.EGRESS: RESOURCE_EGRESS,
}


class Mode(StrEnum):
    """Whether a limit is held, or only what it would have dropped is counted."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class OnViolation(StrEnum):
    """What happens to a pod whose own limit is out of bounds."""

    DENY = "deny"
    CLAMP = "clamp"


class Require(StrEnum):
    """Which directions must have a limit; the others refuse more and more pods."""

    NONE = "none"
    ANY = "any"
    BOTH = "both"


class GateRule(StrEnum):
    """Which limited pods get the readiness gate."""

    NEVER = "never"
    ON_REQUEST = "on-request"
    ALWAYS = "always"


class Source(StrEnum):
    """Where a limit came from."""

    POD = "pod"
    NAMESPACE = "namespace"
    CLUSTER = "cluster"


class Reason(StrEnum):
    """The closed set of condition reasons."""

    ENFORCED = "Enforced"
    PARTLY_ENFORCED = "PartlyEnforced"
    OBSERVING = "Observing"
    PENDING = "Pending"
    UNSUPPORTED = "Unsupported"
    FAILED = "Failed"


class EventReason(StrEnum):
    """What the enforcer's Events on pods are about."""

    CHANGED = "BandwidthLimitChanged"
    RESTORED = "BandwidthLimitRestored"
    DENIED = "BandwidthLimitDenied"
    FAILED = "BandwidthLimitFailed"


# The control socket.
DEFAULT_SOCKET_PATH: Final = "/run/podpace/enforcer.sock"
SOCKET_ENVIRONMENT_VARIABLE: Final = "PODPACE_SOCKET"
