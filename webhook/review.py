"""``podpace-webhook review``: the same decision without a cluster.

For pipelines and for trying a policy. Exit codes: 0 all admitted, 1 something denied, 2 unusable
input.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from contract.merging import EffectivePolicy
from contract.names import Direction
from contract.problems import Problem
from contract.quantity import format_bits_per_second
from webhook.manifests import NamedNamespace, NamedPod, NamedPolicy, UnusableInputError, load
from webhook.mutation import Decision, decide, denial_message
from webhook.policies import PolicyStore
from webhook.policy_review import policy_denial_message, policy_problems, policy_warnings
from webhook.reviews import encode_patch, fit_warnings

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
    message: str
    problems: list[dict[str, str]]
    warnings: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    limits: dict[str, dict[str, Any]]
    readiness_gate: bool
    patch: list[dict[str, Any]]


def review(
    paths: Sequence[str], namespace: str, release_namespace: str, output: str
) -> tuple[int, str]:
    """The exit code and what to print.

    Raises:
        UnusableInputError: see :func:`webhook.manifests.load`; also when there is nothing in it.
    """
    objects = [found for path in paths for found in load(path, namespace)]
    store = PolicyStore(release_namespace, without_cluster=True)
    for found in objects:
        if isinstance(found, NamedNamespace):
            store.put_namespace(found.name, found.labels)
        elif isinstance(found, NamedPolicy) and found.scope(release_namespace) is not None:
            store.put(found.key, found.config_map.data or {})
    verdicts = [
        _judge_policy(found, store)
        if isinstance(found, NamedPolicy)
        else _judge_pod(found, store.effective(found.namespace))
        for found in objects
        if not isinstance(found, NamedNamespace)
    ]
    if not verdicts:
        message = "nothing to review: no pod, workload or policy in the input; give one with -f"
        raise UnusableInputError(message)
    code = ADMITTED if all(v.allowed for v in verdicts) else DENIED
    if output == "json":
        return code, json.dumps([asdict(v) for v in verdicts], indent=2)
    return code, "\n".join(_as_text(verdicts))


def _judge_policy(policy: NamedPolicy, store: PolicyStore) -> Verdict:
    scope = policy.scope(store.release_namespace)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...]
    if scope is None:
        warnings = (f"it has no effect: policies of the cluster are in {store.release_namespace}",)
    else:
        problems = policy_problems(policy.config_map, scope)
        cluster = store.cluster_layers(policy.namespace)
        warnings = policy_warnings(policy.config_map, scope, cluster)
    return Verdict(
        kind="ConfigMap",
        namespace=policy.namespace,
        name=policy.config_map.metadata.name or "",
        allowed=not problems,
        message=policy_denial_message(problems) if problems else "",
        problems=[asdict(p) for p in problems],
        warnings=fit_warnings(warnings),
        labels={},
        annotations={},
        limits={},
        readiness_gate=False,
        patch=[],
    )


def _judge_pod(named: NamedPod, policy: EffectivePolicy) -> Verdict:
    decision = decide(named.pod, policy)
    resolution = decision.resolution
    admitted = resolution if decision.allowed else None
    return Verdict(
        kind=named.kind,
        namespace=named.namespace,
        name=named.name,
        allowed=decision.allowed,
        message=""
        if decision.allowed
        else denial_message(decision.problems, "the pod's bandwidth"),
        problems=[asdict(p) for p in decision.problems],
        warnings=fit_warnings(decision.warnings),
        labels=admitted.labels() if admitted else {},
        annotations=admitted.annotations() if admitted else {},
        limits=_limits(decision),
        readiness_gate=admitted.gate if admitted else False,
        patch=encode_patch(decision.patch),
    )


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


def _as_text(verdicts: Iterable[Verdict]) -> Iterable[str]:
    for verdict in verdicts:
        answer = "admitted" if verdict.allowed else "denied"
        yield f"{verdict.kind} {verdict.namespace}/{verdict.name}: {answer}"
        if verdict.message:
            yield f"  {verdict.message}"
        for direction, limit in verdict.limits.items():
            rate = format_bits_per_second(limit["bits_per_second"])
            yield f"  {direction:8}{rate}, burst {limit['burst_bits']} bits, {limit['origin']}"
        if verdict.allowed and verdict.kind != "ConfigMap" and not verdict.limits:
            yield "  not limited"
        if verdict.readiness_gate:
            yield "  waits for its limit before it is Ready"
        written = verdict.labels | verdict.annotations
        yield from (f"  {key}={value}" for key, value in written.items())
        yield from (f"  warning: {warning}" for warning in verdict.warnings)


def main(paths: Sequence[str], namespace: str, release_namespace: str, output: str) -> int:
    """Prints the verdicts; returns the exit code."""
    try:
        code, text = review(paths, namespace, release_namespace, output)
    except UnusableInputError as e:
        print(f"podpace-webhook review: {e}", file=sys.stderr)
        return UNUSABLE
    print(text)
    return code
