"""From a request's bytes to the answer: decode, decide, count, log. No network."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import structlog

from contract.effective import EffectivePolicy
from contract.merging import Layer
from contract.names import DIRECTIONS
from contract.policy import Scope, scope_of
from contract.problems import Problem, clip
from webhook import reviews
from webhook.metrics import Metrics
from webhook.mutation import Decision, decide, denial_message
from webhook.policy_review import policy_denial_message, review_policy
from webhook.reach import LINUX, Placement
from webhook.reviews import Answer, ConfigMap, Pod, Request, Review

log = structlog.stdlib.get_logger()


class UnusableReviewError(Exception):
    """The body is not an AdmissionReview that we can answer; the message says why."""


class Policies(Protocol):
    """Where the policies in force are looked up."""

    def effective(self, namespace: str) -> EffectivePolicy:
        """What holds for the pods of a namespace."""
        ...

    def cluster_layers(self, namespace: str) -> Sequence[Layer]:
        """The cluster's policies that hold in a namespace."""
        ...


Handler = Callable[[bytes], bytes]
"""Takes a request's body, gives the answer's; raises UnusableReviewError and nothing else."""

_WRITES = (reviews.CREATE, reviews.UPDATE)
_LOGGED_PROBLEMS: Final = 20
NAME_CHARS: Final = 253
"""Of an object's name; a review that the API server did not send may hold anything."""
T = TypeVar("T")


def make_mutate(policies: Policies, metrics: Metrics, enforcers: Placement = LINUX) -> Handler:
    """The handler of pods; ``enforcers``: the nodes that they are on."""
    duration = metrics.duration.labels("mutate")

    def mutate(body: bytes) -> bytes:
        started = time.perf_counter()
        request = open_review(reviews.decode_pod_review, body).request
        pod = request.object
        if pod is None:
            answer, result = reviews.allow(request.uid), "allowed"
        else:
            old = request.old_object if request.operation == reviews.UPDATE else None
            decision = decide(pod, policies.effective(request.namespace), old, enforcers)
            answer, result = _answer_pod(request, decision)
            _log_pod(request, decision)
            source = decision.resolution.source if decision.resolution else None
            if decision.allowed and source is not None and not request.dry_run:
                metrics.limit_source.labels(source.value).inc()
        encoded = reviews.encode_answer(answer)
        metrics.count_request("mutate", operation_of(request), result).inc()
        duration.observe(time.perf_counter() - started)
        return encoded

    return mutate


def make_validate(policies: Policies, release_namespace: str, metrics: Metrics) -> Handler:
    """The handler of policy ConfigMaps."""
    duration = metrics.duration.labels("validate")

    def scope_of_request(request: Request[ConfigMap]) -> Scope | None:
        metadata = request.object.metadata if request.object else None
        if metadata is None or request.operation not in _WRITES:
            return None
        name = request.name or metadata.name or ""
        return scope_of(request.namespace, name, metadata.labels or {}, release_namespace)

    def validate(body: bytes) -> bytes:
        started = time.perf_counter()
        request = open_review(reviews.decode_config_map_review, body).request
        config_map = request.object
        problems: tuple[Problem, ...] = ()
        warnings: tuple[str, ...] = ()
        scope = scope_of_request(request)
        if config_map is not None and scope is not None:
            cluster = policies.cluster_layers(request.namespace)
            problems, warnings = review_policy(config_map, scope, cluster)
            log.info(
                "policy reviewed",
                uid=clip(request.uid, NAME_CHARS),
                namespace=clip(request.namespace, NAME_CHARS),
                policy=clip(request.name or config_map.metadata.name or "", NAME_CHARS),
                operation=operation_of(request),
                dry_run=bool(request.dry_run),
                allowed=not problems,
                problems=[p.key for p in problems[:_LOGGED_PROBLEMS]],
            )
        answer = (
            reviews.deny(request.uid, policy_denial_message(problems), warnings)
            if problems
            else reviews.allow(request.uid, (), warnings)
        )
        result = "denied" if problems else "allowed"
        metrics.count_request("validate", operation_of(request), result).inc()
        duration.observe(time.perf_counter() - started)
        return reviews.encode_answer(answer)

    return validate


def too_large_answer(uid: str) -> bytes:
    """What nobody can judge is refused, or it would be admitted where failures are ignored."""
    log.warning("review too large", uid=clip(uid, NAME_CHARS))
    return reviews.encode_answer(reviews.deny(uid, "it is too large to be judged"))


def open_review(decode: Callable[[bytes], Review[T]], body: bytes) -> Review[T]:
    """Decoded. Raises UnusableReviewError: it is no review."""
    try:
        review = decode(body)
    except RecursionError as e:
        message = "the body is nested too deeply"
        raise UnusableReviewError(message) from e
    except ValueError as e:
        # msgspec's DecodeError is one, and so is Unicode's.
        raise UnusableReviewError(f"the body is not a usable AdmissionReview: {e}") from e
    if review.api_version != reviews.API_VERSION or review.kind != reviews.KIND:
        message = f"send {reviews.KIND} of {reviews.API_VERSION}"
        raise UnusableReviewError(message)
    return review


def _answer_pod(request: Request[Pod], decision: Decision) -> tuple[Answer, str]:
    if decision.problems:
        message = denial_message(decision.problems, "the pod's bandwidth")
        return reviews.deny(request.uid, message, decision.warnings), "denied"
    return reviews.allow(request.uid, decision.patch, decision.warnings), "allowed"


def operation_of(request: Request[T]) -> str:
    """Bounded, because it becomes a metric's label."""
    return request.operation if request.operation in _WRITES else "other"


def _log_pod(request: Request[Pod], decision: Decision) -> None:
    metadata = request.object.metadata if request.object else reviews.Metadata()
    resolution = decision.resolution
    fields = {
        f"{direction}_bits_per_second": resolved.limit.bits_per_second
        for direction in DIRECTIONS
        if resolution and (resolved := resolution.of(direction))
    }
    log.info(
        "pod reviewed",
        uid=clip(request.uid, NAME_CHARS),
        namespace=clip(request.namespace, NAME_CHARS),
        pod=clip(request.name or metadata.name or f"{metadata.generate_name or ''}*", NAME_CHARS),
        operation=operation_of(request),
        dry_run=bool(request.dry_run),
        allowed=decision.allowed,
        changes=len(decision.patch),
        problems=[problem.key for problem in decision.problems[:_LOGGED_PROBLEMS]],
        **fields,
    )
