"""AdmissionReview (admission.k8s.io/v1) on the wire: only the fields that decisions need.

msgspec decodes just these, checks their types on the way and passes over the rest.
"""

import base64
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from contract.names import RESOURCES, Direction
from contract.problems import clip
from webhook.jsonpatch import Operation
from webhook.reach import Placement

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"

_WARNING_CHARS: Final = 240
"""The API server may cut a warning above 256."""
_ALL_WARNINGS_CHARS: Final = 3800
"""It drops warnings above 4096 over all webhooks."""

T = TypeVar("T")
P = TypeVar("P")


class Metadata(Struct, rename="camel"):
    """ObjectMeta, as far as we read it."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    oversized: bool = False
    """In a digest only: there was more than anybody reads."""


class ReadinessGate(Struct, rename="camel"):
    """One entry of a pod's readiness gates."""

    condition_type: str


class Amounts(Struct, rename={str(d): key for d, key in RESOURCES.items()}, omit_defaults=True):
    """Of our extended resources. The API server sends texts; people may write numbers."""

    ingress: str | int | float | None = None
    egress: str | int | float | None = None

    def of(self, direction: Direction) -> str | int | float | None:
        """One direction's."""
        return self.ingress if direction is Direction.INGRESS else self.egress


class Resources(Struct, omit_defaults=True):
    """Of a container."""

    limits: Amounts | None = None
    requests: Amounts | None = None


class Container(Struct, rename="camel", omit_defaults=True):
    """A container, as far as the scheduler sums it."""

    resources: Resources | None = None
    restart_policy: str | None = None


class PodSpec(Placement, rename="camel"):
    """PodSpec, as far as we read it."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    overhead: Amounts | None = None
    """Of its RuntimeClass."""
    readiness_gates: list[ReadinessGate] | None = None


class Pod(Struct):
    """A pod, as far as we read it."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class JobSpec(Struct, Generic[P]):
    """Of a CronJob's jobs."""

    template: P | None = None


class JobTemplate(Struct, Generic[P]):
    """What a CronJob makes."""

    spec: JobSpec[P] = msgspec.field(default_factory=JobSpec)


class WorkloadSpec(Struct, Generic[P], rename="camel"):
    """With one of the two; ``P`` is as much of a pod as is read."""

    template: P | None = None
    job_template: JobTemplate[P] | None = None

    @property
    def pod(self) -> P | None:
        """As it makes them."""
        return self.job_template.spec.template if self.job_template else self.template


class Workload(Struct):
    """A Deployment or another that makes pods."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: WorkloadSpec[Pod] = msgspec.field(default_factory=WorkloadSpec)

    @property
    def pod(self) -> Pod | None:
        """As it makes them."""
        return self.spec.pod


class ConfigMap(Struct, rename="camel"):
    """A policy ConfigMap."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None


class Request(Struct, Generic[T], rename="camel"):
    """One admission request. ``namespace`` is the one to trust; the object's may be blank."""

    uid: str
    operation: str
    namespace: str = ""
    name: str = ""
    dry_run: bool | None = None
    object: T | None = None
    old_object: T | None = None


class Review(Struct, Generic[T], rename="camel"):
    """What the API server posts."""

    api_version: str
    kind: str
    request: Request[T]


class Status(Struct):
    """Why not."""

    code: int
    message: str
    reason: str = "Forbidden"
    status: str = "Failure"


class Response(Struct, rename="camel", omit_defaults=True):
    """The answer; ``patch`` is base64 of a JSON Patch."""

    uid: str
    allowed: bool
    status: Status | None = None
    warnings: list[str] | None = None
    patch_type: str | None = None
    patch: str | None = None


class Answer(Struct, rename="camel"):
    """The envelope of a response."""

    response: Response
    api_version: str = API_VERSION
    kind: str = KIND


_encoder = msgspec.json.Encoder()
decode_pod_review: Final = msgspec.json.Decoder(Review[Pod]).decode
decode_config_map_review: Final = msgspec.json.Decoder(Review[ConfigMap]).decode
decode_workload_review: Final = msgspec.json.Decoder(Review[Workload]).decode
encode_answer: Final = _encoder.encode


def encode_patch(patch: Sequence[Operation]) -> list[dict[str, Any]]:
    """The operations as plain values."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(patch)
    return plain


def allow(uid: str, patch: Sequence[Operation] = (), warnings: Sequence[str] = ()) -> Answer:
    """Admit, changed by ``patch``."""
    response = Response(uid, allowed=True, warnings=fit_warnings(warnings) or None)
    if patch:
        response.patch_type = "JSONPatch"
        response.patch = base64.b64encode(_encoder.encode(patch)).decode()
    return Answer(response)


def deny(uid: str, message: str, warnings: Sequence[str] = ()) -> Answer:
    """Refuse; ``message`` is what the user reads behind "denied the request:"."""
    return Answer(
        Response(
            uid, allowed=False, status=Status(403, message), warnings=fit_warnings(warnings) or None
        )
    )


def fit_warnings(warnings: Sequence[str]) -> list[str]:
    """As much as the API server passes on, and how many more there were."""
    fitted: list[str] = []
    room = _ALL_WARNINGS_CHARS
    for position, warning in enumerate(warnings):
        clipped = clip(warning, _WARNING_CHARS)
        room -= len(clipped.encode())
        if room < 0:
            return [*fitted, f"and {len(warnings) - position} more warnings"]
        fitted.append(clipped)
    return fitted
