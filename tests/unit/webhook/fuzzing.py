"""Reviews at random and an oracle that knows, without our code, what must not be allowed."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.unit.webhook.patching import apply_patch

Json = dict[str, Any]
OUR, STANDARD = "podpace.io/", "kubernetes.io/"
DIRECTIONS = ("ingress", "egress")
KNOWN_LABELS = {
    "limited",
    "source",
    "mode",
    *(f"{d}-{what}" for d in DIRECTIONS for what in ("bits-per-second", "burst-bits")),
}
READABLE = {
    "1k": 1000,
    "1M": 10**6,
    "5000000": 5 * 10**6,
    "10M": 10**7,
    "9.5Mi": 9961472,
    "+2e7": 2 * 10**7,
    "1G": 10**9,
    "1P": 10**15,
}
UNREADABLE = ("", "0", "-1M", "10Mbps", "1_0M", " 1M", "1e3k", "NaN", "Inf", "2P", "K", "\u0661M")


@dataclass(frozen=True)
class Rules:
    """A namespace's policy, in plain numbers for the oracle and as data for the webhook."""

    data: dict[str, str]
    most: dict[str, int] = field(default_factory=dict)
    least: dict[str, int] = field(default_factory=dict)
    most_burst: dict[str, int] = field(default_factory=dict)
    clamp: bool = False
    required: str = "none"
    moved: bool = False


CLUSTER = Rules({"egress.max": "500M", "ingress.burst.max": "50M"})
NAMESPACES = {
    "plain": Rules({}),
    "bounded": Rules(
        {"ingress.min": "2M", "ingress.max": "100M", "egress.max": "10M"},
        most={"ingress": 10**8, "egress": 10**7},
        least={"ingress": 2 * 10**6},
    ),
    "clamped": Rules(
        {
            "ingress.max": "8M",
            "egress.min": "3M",
            "on-violation": "clamp",
            "egress.burst.max": "1M",
        },
        most={"ingress": 8 * 10**6},
        least={"egress": 3 * 10**6},
        most_burst={"egress": 10**6},
        clamp=True,
    ),
    "any": Rules({"require": "any"}, required="any"),
    "both": Rules({"require": "both"}, required="both"),
    "moved": Rules({"take-over": "true", "ingress.default": "4M"}, moved=True),
    "loose": Rules({"egress.max": "1P", "mode": "observe", "exempt-cidrs": "::/0,0.0.0.0/0"}),
}


def most(rules: Rules, direction: str) -> int | None:
    """The smaller of namespace and cluster."""
    bounds = [*([5 * 10**8] if direction == "egress" else []), rules.most.get(direction)]
    return min((b for b in bounds if b is not None), default=None)


def most_burst(rules: Rules, direction: str) -> int | None:
    """The smaller of namespace and cluster."""
    bounds = [*([5 * 10**7] if direction == "ingress" else []), rules.most_burst.get(direction)]
    return min((b for b in bounds if b is not None), default=None)


_texts = st.text(max_size=20)
_quantities = st.one_of(
    st.sampled_from(list(READABLE)),
    st.sampled_from([*READABLE, *UNREADABLE]),
    st.integers(-5, 2 * 10**15).map(str),
    _texts,
)
_rate_keys = [f"{p}{d}-bandwidth" for p in (OUR, STANDARD) for d in DIRECTIONS]
_rates = st.dictionaries(st.sampled_from(_rate_keys), _quantities, min_size=1, max_size=3)
_others = st.dictionaries(
    st.one_of(
        st.sampled_from([f"{OUR}{d}-burst" for d in DIRECTIONS]),
        st.sampled_from([f"{OUR}readiness-gate", f"{OUR}exempt-cidrs", f"{OUR}egres-burst", "a/b"]),
        _texts,
    ),
    st.one_of(_quantities, st.sampled_from(["true", "false"])),
    max_size=3,
)
_annotations = st.one_of(_rates, st.builds(lambda a, b: a | b, _rates, _others))
_labels = st.dictionaries(
    st.one_of(st.sampled_from([OUR + k for k in sorted(KNOWN_LABELS)]), _texts),
    _texts,
    max_size=4,
)
_metadata = st.fixed_dictionaries(
    # Drawn evenly, an absent map would be as frequent as all others together.
    {"annotations": st.one_of(_rates, _annotations, _annotations, st.sampled_from([None, {}]))},
    optional={
        "name": _texts,
        "generateName": _texts,
        "namespace": _texts,
        "labels": st.one_of(st.none(), _labels),
        "uid": _texts,
        "ownerReferences": st.lists(st.none(), max_size=2),
    },
)
_gates = st.lists(
    st.sampled_from(["a/b", f"{OUR}BandwidthEnforced"]).map(lambda t: {"conditionType": t}),
    max_size=2,
)
# The API server always sends a spec.
pods = st.fixed_dictionaries(
    {
        "metadata": _metadata,
        "spec": st.fixed_dictionaries(
            {},
            optional={"readinessGates": st.one_of(st.none(), _gates), "hostNetwork": st.booleans()},
        ),
    },
    optional={"status": st.none()},
)
reviews = st.fixed_dictionaries(
    {
        "namespace": st.sampled_from(list(NAMESPACES)),
        "operation": st.sampled_from(["CREATE", "CREATE", "UPDATE"]),
        "object": pods,
        "oldObject": pods,
        "dryRun": st.one_of(st.none(), st.booleans()),
        "uid": _texts,
    }
).map(lambda r: r | ({"oldObject": None} if r["operation"] == "CREATE" else {}))


def envelope(request: Json) -> Json:
    """The review around a request."""
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def judge(request: Json, response: Json, patch: list[Json]) -> Json | None:
    """Fails when the answer breaks a rule; the changed pod when it was allowed."""
    assert response["uid"] == request["uid"]
    before = request["object"]
    annotations = before["metadata"].get("annotations") or {}
    if not response["allowed"]:
        assert patch == []
        assert response["status"]["message"]
        return None
    after = apply_patch(before, patch)
    rules = NAMESPACES[request["namespace"]]
    _only_ours_changed(before, after, rules)
    labels = {
        k.removeprefix(OUR): v
        for k, v in (after["metadata"].get("labels") or {}).items()
        if k.removeprefix(OUR) in KNOWN_LABELS and k.startswith(OUR)
    }
    for direction in DIRECTIONS:
        _within(labels, rules, direction)
    assert ("limited" in labels) == any(f"{d}-bits-per-second" in labels for d in DIRECTIONS)
    if labels:
        assert labels["mode"] == "enforce"
    if request["operation"] == "CREATE":
        _nothing_forbidden(annotations, labels, rules)
    return after


def _only_ours_changed(before: Json, after: Json, rules: Rules) -> None:
    for what in ("labels", "annotations"):
        old, new = (p["metadata"].get(what) or {} for p in (before, after))
        changed = {k for k in {*old, *new} if old.get(k) != new.get(k)}
        allowed = {OUR + k for k in KNOWN_LABELS} if what == "labels" else {f"{OUR}exempt-cidrs"}
        if what == "annotations" and rules.moved:
            allowed |= set(_rate_keys)
        assert changed <= allowed, changed
    stripped = [
        {k: v for k, v in p.items() if k not in ("metadata", "spec")} for p in (before, after)
    ]
    assert stripped[0] == stripped[1]


def _within(labels: dict[str, str], rules: Rules, direction: str) -> None:
    text = labels.get(f"{direction}-bits-per-second")
    ceiling, floor = most(rules, direction), rules.least.get(direction)
    if text is None:
        assert ceiling is None, f"unlimited {direction} above a max"
        assert f"{direction}-burst-bits" not in labels
        return
    bits, burst = int(text), int(labels[f"{direction}-burst-bits"])
    assert 1000 <= bits <= 10**15
    assert ceiling is None or bits <= ceiling
    assert floor is None or bits >= floor
    assert 0 < burst <= bits
    cap = most_burst(rules, direction)
    assert cap is None or burst <= cap


def _nothing_forbidden(annotations: dict[str, str], labels: dict[str, str], rules: Rules) -> None:
    for direction in DIRECTIONS:
        written = [annotations.get(f"{p}{direction}-bandwidth") for p in (OUR, STANDARD)]
        assert not set(written) & set(UNREADABLE), "unreadable and allowed"
        asked = READABLE.get(next((w for w in written if w is not None), ""))
        if asked is None:
            continue
        got = int(labels[f"{direction}-bits-per-second"])
        if rules.clamp:
            continue
        assert got == asked, "changed without clamping"
        ceiling = most(rules, direction)
        assert ceiling is None or asked <= ceiling, "out of bounds and allowed"
    limited = [d for d in DIRECTIONS if f"{d}-bits-per-second" in labels]
    assert len(limited) >= {"none": 0, "any": 1, "both": 2}[rules.required]
    assert f"{OUR}egres-burst" not in annotations, "misspelt key allowed"
    if rules.moved:
        return
    gate = annotations.get(f"{OUR}readiness-gate")
    assert gate in (None, "true", "false")
