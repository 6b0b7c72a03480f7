"""What the author of a workload should know of its pods: warnings, while pods are refused later.

A Deployment is admitted whatever its pods ask for; that they are refused stands in the events of a
ReplicaSet, which few people read.
"""

import time
from collections.abc import Iterator

import structlog

from contract import names
from contract.effective import EffectivePolicy
from contract.problems import clip
from contract.reading import INPUT_KEYS
from webhook import reviews
from webhook.admission import NAME_CHARS, Handler, Policies, open_review, operation_of
from webhook.metrics import Metrics
from webhook.mutation import decide
from webhook.reach import LINUX, Placement
from webhook.reviews import Metadata, Pod

log = structlog.stdlib.get_logger()


def make_warn(policies: Policies, metrics: Metrics, enforcers: Placement = LINUX) -> Handler:
    """The handler of workloads: it refuses none."""
    duration = metrics.duration.labels("workloads")

    def warn(body: bytes) -> bytes:
        started = time.perf_counter()
        request = open_review(reviews.decode_workload_review, body).request
        workload = request.object
        warnings: tuple[str, ...] = ()
        if workload is not None and workload.pod is not None:
            policy = policies.effective(request.namespace)
            warnings = workload_warnings(workload.metadata, workload.pod, policy, enforcers)
        if workload is not None and warnings:
            log.info(
                "workload warned of",
                uid=clip(request.uid, NAME_CHARS),
                namespace=clip(request.namespace, NAME_CHARS),
                workload=clip(request.name or workload.metadata.name or "", NAME_CHARS),
                operation=operation_of(request),
                dry_run=bool(request.dry_run),
                warnings=len(warnings),
            )
        answer = reviews.allow(request.uid, (), warnings)
        metrics.count_request("workloads", operation_of(request), "allowed").inc()
        duration.observe(time.perf_counter() - started)
        return reviews.encode_answer(answer)

    return warn


def workload_warnings(
    metadata: Metadata, pod: Pod, policy: EffectivePolicy, enforcers: Placement = LINUX
) -> tuple[str, ...]:
    """Why its pods will be refused or warned of, and what is written where it means nothing."""
    decision = decide(pod, policy, enforcers=enforcers)
    refused = (f"its pods will be refused: {problem}" for problem in decision.problems)
    return (*refused, *misplaced_annotations(metadata), *decision.warnings)


def misplaced_annotations(metadata: Metadata) -> Iterator[str]:
    """On the workload itself, where they mean nothing."""
    for key in INPUT_KEYS:
        if key in (metadata.annotations or {}):
            yield f"{key} has no effect here; write it as an annotation of the pod template"
    if names.LABEL_NAMESPACE_IGNORE in (metadata.labels or {}):
        yield f"{names.LABEL_NAMESPACE_IGNORE} is a label of namespaces; here it has no effect"
