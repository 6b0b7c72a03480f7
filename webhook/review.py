"""``podpace-webhook review``: the same decision without a cluster.

For pipelines and for trying a policy. Exit codes: 0 all admitted, 1 something denied (or, with
``--strict``, warned of), 2 unusable input.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from contract.effective import EffectivePolicy
from contract.names import (
    ALWAYS_EXEMPT_NAMESPACES,
    CONDITION_BANDWIDTH_ENFORCED,
    LABEL_NAMESPACE_IGNORE,
    Direction,
)
from contract.problems import Problem
from contract.quantity import format_bits_per_second
from webhook.manifests import (
    NamedNamespace,
    NamedPod,
    NamedPolicy,
    NamedQuota,
    UnusableInputError,
    load,
)
from webhook.mutation import Decision, decide, denial_message
from webhook.policies import DEFAULT_RELEASE_NAMESPACE, PolicyStore
from webhook.policy_review import policy_denial_message, review_policy
from webhook.quotas import Quota, refused, uncounted
from webhook.reviews import encode_patch, fit_warnings
from webhook.workloads import misplaced_annotations

_NO_PODS: Final = frozenset({"ConfigMap", "ResourceQuota"})
ADMITTED: Final = 0
DENIED: Final = 1
UNUSABLE: Final = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """One object's answer, as ``-o json`` prints it."""

    kind: str
    namespace: str
    name: str
    allowed: bool
    left_out: str
    """Why it is not judged; empty: it is."""
    message: str
    problems: list[dict[str, str]]
    warnings: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    limits: dict[str, dict[str, Any]]
    requests: dict[str, dict[str, Any]]
    """What is guaranteed of the limits."""
    totals: dict[str, dict[str, Any]]
    """Of its namespace on each node."""
    readiness_gate: bool
    patch: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Options:
    """How to review."""

    namespace: str = "default"
    """For objects that name none."""
    release_namespace: str = DEFAULT_RELEASE_NAMESPACE
    output: str = "text"
    strict: bool = False
    """Warnings count as denials."""
    exempt_namespaces: tuple[str, ...] = ()
    """Left out of admission, besides those that always are."""


def review(paths: Sequence[str], options: Options) -> tuple[int, str]:
    """The exit code and what to print.

    Raises:
        UnusableInputError: see :func:`webhook.manifests.load`; also when there is nothing in it.
    """
    found = [load(path, options.namespace) for path in paths]
    objects = [named for file in found for named in file.named]
    if not any(file.documents for file in found):
        message = "nothing to review: the input is empty; give manifests with -f"
        raise UnusableInputError(message)
    store = PolicyStore(options.release_namespace, without_cluster=True)
    exempt = {*ALWAYS_EXEMPT_NAMESPACES, options.release_namespace, *options.exempt_namespaces}
    for named in objects:
        if isinstance(named, NamedNamespace):
            store.put_namespace(named.name, named.labels)
            if LABEL_NAMESPACE_IGNORE in named.labels:
                exempt.add(named.name)
        elif isinstance(named, NamedPolicy) and named.scope(options.release_namespace) is not None:
            store.put(named.key, named.config_map.data or {})
    quotas = [
        Quota.read(named.namespace, named.name, named.hard)
        for named in objects
        if isinstance(named, NamedQuota)
    ]
    verdicts = [
        _judge_policy(named, store)
        if isinstance(named, NamedPolicy)
        else _judge_quota(named)
        if isinstance(named, NamedQuota)
        else _leave_out(named)
        if named.namespace in exempt
        else _judge_pod(named, store.effective(named.namespace), quotas)
        for named in objects
        if not isinstance(named, NamedNamespace)
    ]
    good = all(v.allowed and not (options.strict and v.warnings) for v in verdicts)
    code = ADMITTED if good else DENIED
    if options.output == "json":
        return code, json.dumps([asdict(v) for v in verdicts], indent=2)
    return code, "\n".join(_as_text(verdicts)) or "nothing to review: no pod, workload or policy"


def _judge_policy(policy: NamedPolicy, store: PolicyStore) -> Verdict:
    scope = policy.scope(store.release_namespace)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...]
    if scope is None:
        warnings = (f"it has no effect: policies of the cluster are in {store.release_namespace}",)
    else:
        cluster = store.cluster_layers(policy.namespace)
        problems, warnings = review_policy(policy.config_map, scope, cluster)
    return Verdict(
        kind="ConfigMap",
        namespace=policy.namespace,
        name=policy.config_map.metadata.name or "",
        allowed=not problems,
        left_out="",
        message=policy_denial_message(problems) if problems else "",
        problems=[asdict(p) for p in problems],
        warnings=fit_warnings((*_twice(policy.written_twice), *warnings)),
        labels={},
        annotations={},
        limits={},
        requests={},
        totals={},
        readiness_gate=False,
        patch=[],
    )


def _judge_quota(named: NamedQuota) -> Verdict:
    warnings = fit_warnings(list(uncounted(named.hard)))
    return _unlimited("ResourceQuota", named.namespace, named.name, warnings=warnings)


def _judge_pod(named: NamedPod, policy: EffectivePolicy, quotas: Sequence[Quota] = ()) -> Verdict:
    decision = decide(named.pod, policy)
    warnings = [*_twice(named.written_twice), *decision.warnings]
    if named.kind != "Pod":
        warnings += misplaced_annotations(named.metadata)
    resolution = decision.resolution
    admitted = resolution if decision.allowed else None
    over = ""
    if admitted is not None:
        over = refused(quotas, named.namespace, named.pod_name, admitted.bookings, named.replicas)
    return Verdict(
        kind=named.kind,
        namespace=named.namespace,
        name=named.name,
        allowed=decision.allowed and not over,
        left_out="",
        message=over
        if decision.allowed
        else denial_message(decision.problems, "the pod's bandwidth"),
        problems=[asdict(p) for p in decision.problems],
        warnings=fit_warnings(warnings),
        labels=admitted.labels() if admitted else {},
        annotations=admitted.annotations() if admitted else {},
        limits=_limits(decision),
        requests=_requests(decision),
        totals=_totals(decision),
        readiness_gate=admitted.gate if admitted else False,
        patch=encode_patch(decision.patch),
    )


def _leave_out(named: NamedPod) -> Verdict:
    gates = named.pod.spec.readiness_gates or ()
    gated = any(gate.condition_type == CONDITION_BANDWIDTH_ENFORCED for gate in gates)
    waits = f"nobody opens the readiness gate {CONDITION_BANDWIDTH_ENFORCED} there"
    return _unlimited(
        named.kind,
        named.namespace,
        named.name,
        left_out="its namespace is left out of podpace: nothing limits it, and nothing refuses it",
        warnings=[f"{waits}: it will not be Ready"] if gated else [],
    )


def _unlimited(
    kind: str, namespace: str, name: str, *, warnings: list[str], left_out: str = ""
) -> Verdict:
    """Admitted, and nothing is put in."""
    return Verdict(
        kind=kind,
        namespace=namespace,
        name=name,
        allowed=True,
        left_out=left_out,
        message="",
        problems=[],
        warnings=warnings,
        labels={},
        annotations={},
        limits={},
        requests={},
        totals={},
        readiness_gate=False,
        patch=[],
    )


def _twice(keys: tuple[str, ...]) -> Iterator[str]:
    return (f"{key} is written twice in one place; the last counts" for key in keys)


def _limits(decision: Decision) -> dict[str, dict[str, Any]]:
    if decision.resolution is None or not decision.allowed:
        return {}
    return {
        direction.value: {
            "bits_per_second": resolved.limit.bits_per_second,
            "burst_bits": resolved.limit.burst_bits,
            "origin": resolved.origin,
        }
        for direction in Direction
        if (resolved := decision.resolution.of(direction)) is not None
    }


def _requests(decision: Decision) -> dict[str, dict[str, Any]]:
    if decision.resolution is None or not decision.allowed:
        return {}
    return {
        direction.value: {"bits_per_second": request.bits_per_second, "origin": request.origin}
        for direction in Direction
        if (request := decision.resolution.request(direction)) is not None
    }


def _totals(decision: Decision) -> dict[str, dict[str, Any]]:
    if decision.resolution is None or not decision.allowed:
        return {}
    return {
        direction.value: {
            "bits_per_second": total.bits_per_second,
            "origin": f"{total.source} policy{total.note}",
        }
        for direction in Direction
        if (total := decision.resolution.total(direction)) is not None
    }


def _as_text(verdicts: Iterable[Verdict]) -> Iterable[str]:
    for verdict in verdicts:
        answer = "admitted" if verdict.allowed else "denied"
        yield f"{verdict.kind} {verdict.namespace}/{verdict.name}: {verdict.left_out or answer}"
        if verdict.message:
            yield f"  {verdict.message}"
        for direction, limit in verdict.limits.items():
            rate = format_bits_per_second(limit["bits_per_second"])
            yield f"  {direction:8}{rate}, burst {limit['burst_bits']} bits, {limit['origin']}"
        judged = verdict.allowed and verdict.kind not in _NO_PODS and not verdict.left_out
        for direction, request in verdict.requests.items():
            rate = format_bits_per_second(request["bits_per_second"])
            yield f"  {direction:8}{rate} guaranteed, {request['origin']}"
        for direction, total in verdict.totals.items():
            rate = format_bits_per_second(total["bits_per_second"])
            yield f"  {direction:8}{rate} for the namespace on a node, {total['origin']}"
        if judged and not (verdict.limits or verdict.requests or verdict.totals):
            yield "  not limited"
        if verdict.readiness_gate:
            yield "  waits for its limit before it is Ready"
        written = verdict.labels | verdict.annotations
        yield from (f"  {key}={value}" for key, value in written.items())
        yield from (f"  warning: {warning}" for warning in verdict.warnings)


def main(paths: Sequence[str], options: Options) -> int:
    """Prints the verdicts; returns the exit code."""
    try:
        code, text = review(paths, options)
    except UnusableInputError as e:
        print(f"podpace-webhook review: {e}", file=sys.stderr)
        return UNUSABLE
    print(text)
    return code
