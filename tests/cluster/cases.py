"""The table: a pod, the policies over it, and what must come of it.

Every row runs through the real API server and through ``podpace-webhook review``.
"""
# ruff: noqa: E501, RUF001 - a row of the table is a line, and one digit is wide on purpose

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
OUR = "podpace.io/"
STANDARD = "kubernetes.io/"
M = 10**6
GATE = [{"conditionType": "podpace.io/BandwidthEnforced"}]


def limits(
    source: str = "pod",
    *,
    mode: str = "enforce",
    ingress: int | None = None,
    egress: int | None = None,
    ingress_burst: int = 1048576,
    egress_burst: int = 1048576,
    egress_total: int | None = None,
    egress_request: int | None = None,
) -> dict[str, str]:
    """The labels of a limited pod, without their prefix."""
    labels = {"limited": "true", "source": source, "mode": mode}
    if ingress is not None:
        labels |= {
            "ingress-bits-per-second": str(ingress),
            "ingress-burst-bits": str(ingress_burst),
        }
    if egress is not None:
        labels |= {"egress-bits-per-second": str(egress), "egress-burst-bits": str(egress_burst)}
    if egress_total is not None:
        labels["egress-total-bits-per-second"] = str(egress_total)
    if egress_request is not None:
        labels["egress-request-bits-per-second"] = str(egress_request)
    return labels


@dataclass(frozen=True)
class Case:
    """``labels`` is what an admitted pod must carry; a denied pod has ``denied`` instead.

    Annotations are written without ``podpace.io/``; others keep their prefix.
    """

    rule: str
    pod: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    denied: tuple[str, ...] = ()
    """Parts of the message, in order."""
    warned: tuple[str, ...] = ()
    namespace: dict[str, str] | None = None
    cluster: dict[str, str] | None = None
    labels_before: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    """What the pod carries afterwards, when that differs."""
    spec: Json = field(default_factory=dict)
    gates: list[Json] = field(default_factory=list)


def both(value: str, **others: str) -> dict[str, str]:
    """Both directions alike."""
    return {"ingress-bandwidth": value, "egress-bandwidth": value} | others


def _forms() -> list[Case]:
    """Every form of the quantity grammar."""
    good = {
        "10000000": 10 * M,
        "10M": 10 * M,
        "+10M": 10 * M,
        "10e6": 10 * M,
        "10E6": 10 * M,
        "1e7": 10 * M,
        "0.01G": 10 * M,
        ".01G": 10 * M,
        "10.M": 10 * M,
        "10000k": 10 * M,
        "9.5Mi": 9961472,
        "1Gi": 1073741824,
        "1000": 1000,
        "1k": 1000,
        "1P": 10**15,
        "999999999.5m": 10**6,
        "10000000000u": 10_000,
        "1e15": 10**15,
    }
    bad = {
        "10Mbps": "has a unit in it",
        "10 M": "is not a quantity",
        " 10M": "has a space around it",
        "10K": "kilo is a small k",
        "1_000k": "separator",
        "10,5M": "separator",
        "": "is empty",
        "-5M": "is negative",
        "1e3k": "is not a quantity",
        "0x10": "is not a quantity",
        "NaN": "is not a quantity",
        "Infinity": "is not a quantity",
        "999": "below the smallest limit",
        "0": "below the smallest limit",
        "100m": "below the smallest limit",
        "1.001P": "above the largest limit",
        "1E": "above the largest limit",
        "１0M": "is not a quantity",
        "unlimited": "is not a quantity",
    }
    bursts = {1000: 1000, 10_000: 10_000, M: M, 10**15: 10**13, 1073741824: 10737418}
    return [
        *(
            Case(
                f"{text!r} is {bits} bit/s",
                {"egress-bandwidth": text},
                limits(egress=bits, egress_burst=bursts.get(bits, 1048576)),
            )
            for text, bits in good.items()
        ),
        *(
            Case(
                f"{text!r} is refused because it {why}",
                {"ingress-bandwidth": text},
                denied=(f'podpace.io/ingress-bandwidth: "{text}"', why, "; "),
            )
            for text, why in bad.items()
        ),
    ]


FORMS = _forms()

PRECEDENCE = [
    Case("a pod without annotations under no policy is not touched", {}),
    Case("both directions are limited each by its own", {"ingress-bandwidth": "1M", "egress-bandwidth": "2M"}, limits(ingress=M, egress=2 * M, ingress_burst=M)),
    Case("the standard key is honoured", {"kubernetes.io/ingress-bandwidth": "10M"}, limits(ingress=10 * M)),
    Case(
        "our key wins over the standard one, and the difference is told",
        {"ingress-bandwidth": "10M", "kubernetes.io/ingress-bandwidth": "20M"},
        limits(ingress=10 * M),
        warned=("podpace.io/ingress-bandwidth wins over kubernetes.io/ingress-bandwidth",),
    ),
    Case(
        "two keys that say the same are not worth a word",
        {"ingress-bandwidth": "10M", "kubernetes.io/ingress-bandwidth": "10000k"},
        limits(ingress=10 * M),
    ),
    Case(
        "a bad standard key is refused although ours wins, since a runtime would choke on it",
        {"ingress-bandwidth": "10M", "kubernetes.io/ingress-bandwidth": "10Mbit"},
        denied=('kubernetes.io/ingress-bandwidth: "10Mbit"',),
    ),
    Case("the pod wins over the namespace's default", {"ingress-bandwidth": "10M"}, limits(ingress=10 * M), namespace={"ingress.default": "20M"}),
    Case("the namespace's default limits a pod that says nothing", {}, limits("namespace", ingress=20 * M), namespace={"ingress.default": "20M"}),
    Case("the cluster's default limits a pod that says nothing", {}, limits("cluster", egress=30 * M), cluster={"egress.default": "30M"}),
    Case("the namespace's default wins over the cluster's", {}, limits("namespace", egress=20 * M), namespace={"egress.default": "20M"}, cluster={"egress.default": "30M"}),
    Case(
        "each direction takes the nearest that says something; the source is the nearest of both",
        {"ingress-bandwidth": "10M"},
        limits("pod", ingress=10 * M, egress=30 * M),
        cluster={"egress.default": "30M"},
    ),
    Case("hostNetwork pods are limited like any other", {"egress-bandwidth": "10M"}, limits(egress=10 * M), spec={"hostNetwork": True}),
    Case("labels written by hand at creation are overwritten", {"egress-bandwidth": "10M"}, limits(egress=10 * M), labels_before={"podpace.io/egress-bits-per-second": "99", "podpace.io/source": "cluster"}),
    Case("labels written by hand on an unlimited pod are removed", {}, labels_before={"podpace.io/limited": "true", "podpace.io/ingress-bits-per-second": "1"}),
    Case("other people's labels and annotations stay", {"egress-bandwidth": "10M", "example.com/a": "b"}, limits(egress=10 * M), labels_before={"app": "x"}),
]  # fmt: skip

BOUNDS = [
    Case("a limit above the namespace's max is refused", {"ingress-bandwidth": "200M"}, denied=('podpace.io/ingress-bandwidth: "200M" is above the namespace\'s maximum, 100 Mbit/s', "write 100000000 or less"), namespace={"ingress.max": "100M"}),
    Case("a limit above the cluster's max is refused", {"ingress-bandwidth": "200M"}, denied=("is above the cluster's maximum, 100 Mbit/s",), cluster={"ingress.max": "100M"}),
    Case("a limit below the min is refused", {"egress-bandwidth": "1M"}, denied=("is below the namespace's minimum, 5 Mbit/s", "write 5000000 or more"), namespace={"egress.min": "5M"}),
    Case("a limit equal to the max is admitted", {"ingress-bandwidth": "100M"}, limits(ingress=100 * M), namespace={"ingress.max": "100M"}),
    Case("a limit equal to the min is admitted", {"egress-bandwidth": "5M"}, limits(egress=5 * M), namespace={"egress.min": "5M"}),
    Case("a namespace may tighten the cluster's max", {"ingress-bandwidth": "80M"}, denied=("the namespace's maximum, 50 Mbit/s",), namespace={"ingress.max": "50M"}, cluster={"ingress.max": "100M"}),
    Case("a namespace cannot loosen the cluster's max", {"ingress-bandwidth": "200M"}, denied=("the cluster's maximum, 100 Mbit/s",), namespace={"ingress.max": "1G"}, cluster={"ingress.max": "100M"}),
    Case("a namespace cannot loosen the cluster's min", {"ingress-bandwidth": "2M"}, denied=("the cluster's minimum, 5 Mbit/s",), namespace={"ingress.min": "1M"}, cluster={"ingress.min": "5M"}),
    Case("a pod without a limit gets the max, for unlimited is above any max", {}, limits("namespace", ingress=100 * M), namespace={"ingress.max": "100M"}),
    Case("a namespace's default above the cluster's max is brought down to it", {}, limits("cluster", ingress=100 * M), namespace={"ingress.default": "1G"}, cluster={"ingress.max": "100M"}),
    Case("a default below the min is raised to it", {}, limits("cluster", ingress=5 * M), namespace={"ingress.default": "1M"}, cluster={"ingress.min": "5M"}),
    Case("above the max is clamped where the policy clamps, and told", {"ingress-bandwidth": "200M"}, limits(ingress=100 * M), warned=("is above the namespace's maximum", ), namespace={"ingress.max": "100M", "on-violation": "clamp"}),
    Case("below the min is clamped where the policy clamps, and told", {"egress-bandwidth": "1M"}, limits(egress=5 * M), warned=("is below the namespace's minimum",), namespace={"egress.min": "5M", "on-violation": "clamp"}),
    Case("a namespace cannot be milder than the cluster that denies", {"ingress-bandwidth": "200M"}, denied=("is above the cluster's maximum",), namespace={"on-violation": "clamp"}, cluster={"ingress.max": "100M", "on-violation": "deny"}),
    Case("a namespace may deny where the cluster clamps", {"ingress-bandwidth": "200M"}, denied=("is above the cluster's maximum",), namespace={"on-violation": "deny"}, cluster={"ingress.max": "100M", "on-violation": "clamp"}),
    Case("a namespace's max does not go below the cluster's min", {"ingress-bandwidth": "2M"}, denied=("is below the cluster's minimum, 5 Mbit/s",), namespace={"ingress.max": "1M"}, cluster={"ingress.min": "5M"}),
    Case("a cluster's clamp holds in a namespace that does not say", {"ingress-bandwidth": "200M"}, limits(ingress=100 * M), warned=("brought within bounds",), cluster={"ingress.max": "100M", "on-violation": "clamp"}),
    Case("clamping does not forgive what cannot be read", {"ingress-bandwidth": "200 M"}, denied=("is not a quantity",), namespace={"ingress.max": "100M", "on-violation": "clamp"}),
    Case("the standard key obeys the bounds, under its own name", {"kubernetes.io/egress-bandwidth": "1G"}, denied=('kubernetes.io/egress-bandwidth: "1G" is above',), namespace={"egress.max": "100M"}),
]  # fmt: skip

REQUIRE = [
    Case("require any refuses a pod without a limit", {}, denied=("podpace.io/egress-bandwidth", "the policy requires a limit", "set one of them"), namespace={"require": "any"}),
    Case("require any takes one direction", {"ingress-bandwidth": "1M"}, limits(ingress=M, ingress_burst=M), namespace={"require": "any"}),
    Case("require both refuses a pod with one", {"ingress-bandwidth": "1M"}, denied=("podpace.io/egress-bandwidth", "requires both"), namespace={"require": "both"}),
    Case("require both takes both", both("1M"), limits(ingress=M, egress=M, ingress_burst=M, egress_burst=M), namespace={"require": "both"}),
    Case("a default counts as a limit for require", {"ingress-bandwidth": "2M"}, limits(ingress=2 * M, egress=3 * M), namespace={"require": "both", "egress.default": "3M"}),
    Case("a namespace cannot lower the cluster's require", {}, denied=("requires both",), namespace={"require": "none"}, cluster={"require": "both"}),
]  # fmt: skip

BURSTS = [
    Case("a burst is taken", {"egress-bandwidth": "10M", "egress-burst": "4M"}, limits(egress=10 * M, egress_burst=4 * M)),
    Case("a fast limit's default burst is 10 ms of it", {"egress-bandwidth": "1G"}, limits(egress=1000 * M, egress_burst=10 * M)),
    Case("a slow limit's default burst is one second of it", {"egress-bandwidth": "100k"}, limits(egress=100_000, egress_burst=100_000)),
    Case("a burst above one second of the limit is cut, and told", {"egress-bandwidth": "1M", "egress-burst": "10M"}, limits(egress=M, egress_burst=M), warned=("more than one second",)),
    Case("a burst below one frame is refused", {"egress-bandwidth": "1M", "egress-burst": "1k"}, denied=("less than one full frame", "write 12304 or more")),
    Case("a burst without a limit is refused", {"egress-burst": "1M"}, denied=("podpace.io/egress-burst", "has no effect without podpace.io/egress-bandwidth")),
    Case("a burst goes with a default limit", {"egress-burst": "2M"}, limits("namespace", egress=10 * M, egress_burst=2 * M), namespace={"egress.default": "10M"}),
    Case("a burst above burst.max is refused", {"egress-bandwidth": "10M", "egress-burst": "4M"}, denied=("is above the policy's largest burst, 2000000 bits",), namespace={"egress.burst.max": "2M"}),
    Case("a burst above burst.max is clamped where the policy clamps", {"egress-bandwidth": "10M", "egress-burst": "4M"}, limits(egress=10 * M, egress_burst=2 * M), warned=("largest burst",), namespace={"egress.burst.max": "2M", "on-violation": "clamp"}),
    Case("a default burst obeys burst.max without a word", {"egress-bandwidth": "10G"}, limits(egress=10_000 * M, egress_burst=2 * M), namespace={"egress.burst.max": "2M"}),
]  # fmt: skip

GATES = [
    Case("a readiness gate is given on request", {"egress-bandwidth": "1M", "readiness-gate": "true"}, limits(egress=M, egress_burst=M), gates=GATE),
    Case("a readiness gate goes behind others", {"egress-bandwidth": "1M", "readiness-gate": "true"}, limits(egress=M, egress_burst=M), spec={"readinessGates": [{"conditionType": "example.com/x"}]}, gates=[{"conditionType": "example.com/x"}, *GATE]),
    Case("a readiness gate is not given twice", {"egress-bandwidth": "1M", "readiness-gate": "true"}, limits(egress=M, egress_burst=M), spec={"readinessGates": GATE}, gates=GATE),
    Case("a readiness gate is always given where the policy says so", {"egress-bandwidth": "1M"}, limits(egress=M, egress_burst=M), namespace={"readiness-gate": "always"}, gates=GATE),
    Case("a readiness gate is never given where the policy says so, and told", {"egress-bandwidth": "1M", "readiness-gate": "true"}, limits(egress=M, egress_burst=M), namespace={"readiness-gate": "never"}, warned=("the policy says never",)),
    Case("a readiness gate on an unlimited pod would never open, so it is not given", {"readiness-gate": "true"}, warned=("without a limit",)),
    Case("a readiness gate is asked for with true or false", {"readiness-gate": "yes"}, denied=('podpace.io/readiness-gate: "yes" is not true or false',)),
]  # fmt: skip

MODES = [
    Case("observe mode is said in the label", {"egress-bandwidth": "1M"}, limits(mode="observe", egress=M, egress_burst=M), namespace={"mode": "observe"}),
    Case("a namespace may enforce where the cluster observes", {"egress-bandwidth": "1M"}, limits(egress=M, egress_burst=M), namespace={"mode": "enforce"}, cluster={"mode": "observe"}),
    Case("a namespace cannot observe its way round the cluster's max", {"ingress-bandwidth": "2M"}, limits(ingress=2 * M), namespace={"mode": "observe"}, cluster={"ingress.max": "2M"}),
    Case("exempt networks are written for the enforcer", {"egress-bandwidth": "1M"}, limits(egress=M, egress_burst=M), namespace={"exempt-cidrs": "192.168.0.0/16, 10.0.0.0/8,fd00::/8"}, annotations={"podpace.io/egress-bandwidth": "1M", "podpace.io/exempt-cidrs": "10.0.0.0/8,192.168.0.0/16,fd00::/8"}),
    Case("a namespace can exempt only what the cluster exempts", {"egress-bandwidth": "1M"}, limits(egress=M, egress_burst=M), namespace={"exempt-cidrs": "0.0.0.0/0,10.1.0.0/16"}, cluster={"exempt-cidrs": "10.0.0.0/8"}, annotations={"podpace.io/egress-bandwidth": "1M", "podpace.io/exempt-cidrs": "10.1.0.0/16"}),
    Case("exempt networks written by hand are removed", {"egress-bandwidth": "1M", "exempt-cidrs": "0.0.0.0/0"}, limits(egress=M, egress_burst=M), annotations={"podpace.io/egress-bandwidth": "1M"}),
]  # fmt: skip

TAKE_OVER = [
    Case("take-over moves the standard keys to ours", {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "5M"}, limits(ingress=10 * M, egress=5 * M), namespace={"take-over": "true"}, annotations={"podpace.io/ingress-bandwidth": "10M", "podpace.io/egress-bandwidth": "5M"}),
    Case("take-over keeps our key where both are written", {"kubernetes.io/ingress-bandwidth": "10M", "ingress-bandwidth": "5M"}, limits(ingress=5 * M), namespace={"take-over": "true"}, annotations={"podpace.io/ingress-bandwidth": "5M"}),
    Case("a namespace cannot decline the cluster's take-over", {"kubernetes.io/ingress-bandwidth": "10M"}, limits(ingress=10 * M), namespace={"take-over": "false"}, cluster={"take-over": "true"}, annotations={"podpace.io/ingress-bandwidth": "10M"}),
    Case("a bad standard key is refused under its own name with take-over, too", {"kubernetes.io/ingress-bandwidth": "10 M"}, denied=('kubernetes.io/ingress-bandwidth: "10 M"',), namespace={"take-over": "true"}),
]  # fmt: skip

MISTAKES = [
    Case("a misspelt key is refused with the right one", {"ingress-bandwith": "10M"}, denied=("podpace.io/ingress-bandwith", "does not know", "write podpace.io/ingress-bandwidth")),
    Case("a key of nobody's has no effect, and that is told", {"qqq": "10M"}, warned=("podpace.io/qqq is a key that podpace does not know",)),
    Case("all mistakes are told at once", {"ingress-bandwidth": "10Mbps", "egress-bandwidth": "0", "ingress-burst": "x", "readiness-gate": "1", "kubernetes.io/egress-bandwidth": "ten"}, denied=("5 problems", "10Mbps", '"x"', '"0"', '"ten"', '"1"')),
    Case("forty keys of nobody's are refused, and the first of them told", {f"wrong-{n:02}": "10M" for n in range(40)}, denied=("1 problem", "more than 16"), warned=tuple(f"podpace.io/wrong-{n:02}" for n in range(16))),
    Case("a very long value is cut in the message", {"ingress-bandwidth": "x" * 2000}, denied=("xx…", "is not a quantity")),
]  # fmt: skip

TOTALS = [
    Case("a pod without a limit shares the total", {}, limits("cluster", egress_total=9 * M), cluster={"egress.total-per-node": "9M"}),
    Case("a limit stands beside the total", {"egress-bandwidth": "5M"}, limits(egress=5 * M, egress_total=9 * M), cluster={"egress.total-per-node": "9M"}),
    Case("a namespace's smaller total holds", {}, limits("namespace", egress_total=3 * M), namespace={"egress.total-per-node": "3M"}, cluster={"egress.total-per-node": "9M"}),
    Case("a namespace's larger total does not hold", {}, limits("cluster", egress_total=9 * M), namespace={"egress.total-per-node": "90M"}, cluster={"egress.total-per-node": "9M"}),
    Case("a limit above the total is warned of", {"egress-bandwidth": "10M"}, limits(egress=10 * M, egress_total=9 * M), warned=("is above what all pods of the namespace have on a node together, 9 Mbit/s by the cluster's policy",), cluster={"egress.total-per-node": "9M"}),
    Case("a pod that shares may wait for that", {"readiness-gate": "true"}, limits("cluster", egress_total=9 * M), cluster={"egress.total-per-node": "9M"}, gates=GATE),
]  # fmt: skip

REQUESTS = [
    Case("a request is a part of the limit", {"egress-bandwidth": "10M", "egress-request": "2M"}, limits(egress=10 * M, egress_request=2 * M)),
    Case("a request needs no limit", {"egress-request": "2M"}, limits(egress_request=2 * M)),
    Case("a request above the limit", {"egress-bandwidth": "10M", "egress-request": "20M"}, denied=('egress-request: "20M" is above the pod\'s limit, 10 Mbit/s', "write 10000000 or less")),
    Case("a request that is no quantity", {"egress-request": "2Mbit"}, denied=('egress-request: "2Mbit" has a unit',)),
    Case("a request above the policy's", {"egress-request": "20M"}, denied=("is above the cluster's maximum, 5 Mbit/s", "write 5000000 or less"), cluster={"egress.request.max": "5M"}),
    Case("a request below the policy's", {"egress-request": "2M"}, denied=("is below the cluster's minimum, 5 Mbit/s",), cluster={"egress.request.min": "5M"}),
    Case("a request is brought within the policy's", {"egress-request": "20M"}, limits(egress_request=5 * M), warned=("brought within bounds",), cluster={"egress.request.max": "5M", "on-violation": "clamp"}),
    Case("a policy has a request for pods that ask for nothing", {}, limits("cluster", egress_request=5 * M), cluster={"egress.request.default": "5M"}),
    Case("a policy's request is cut to the pod's limit", {"egress-bandwidth": "2M"}, limits(egress=2 * M, egress_request=2 * M), cluster={"egress.request.default": "5M"}),
    Case("a request above the total is warned of", {"egress-request": "20M"}, limits(egress_total=9 * M, egress_request=20 * M), warned=("above the total of the namespace on each node, 9 Mbit/s",), cluster={"egress.total-per-node": "9M"}),
]  # fmt: skip

CASES = [
    *FORMS,
    *PRECEDENCE,
    *BOUNDS,
    *REQUIRE,
    *BURSTS,
    *GATES,
    *MODES,
    *TAKE_OVER,
    *MISTAKES,
    *TOTALS,
    *REQUESTS,
]

BAD_POLICIES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "a policy with a misspelt key": ({"ingres.max": "1M"}, ("ingres.max", "write ingress.max")),
    "a policy with a bad quantity": ({"ingress.max": "1Mbit"}, ('ingress.max: "1Mbit" has a unit',)),
    "a policy with min above max": ({"ingress.min": "2M", "ingress.max": "1M"}, ("ingress.min", "is above ingress.max, 1 Mbit/s")),
    "a policy with a default above max": ({"egress.default": "2M", "egress.max": "1M"}, ("egress.default", "is above egress.max")),
    "a policy with an unknown word": ({"on-violation": "kill"}, ('on-violation: "kill"', "write deny or clamp")),
    "a policy with a bad mode": ({"mode": "off"}, ("write enforce or observe",)),
    "a policy with a bad requirement": ({"require": "all"}, ("write none or any or both",)),
    "a policy with a bad gate": ({"readiness-gate": "maybe"}, ("write never or on-request or always",)),
    "a policy with a bad flag": ({"take-over": "yes"}, ('write "true" or "false"',)),
    "a policy with a bad network": ({"exempt-cidrs": "10.0.0.0/8,10.0.0.1/8"}, ("10.0.0.1/8", "bits set")),
    "a policy with six mistakes": ({"a": "", "ingress.max": "x", "mode": "x", "require": "x", "take-over": "x", "exempt-cidrs": "x"}, ("5 problems with the policy",)),
}  # fmt: skip
