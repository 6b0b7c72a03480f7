"""``kubectl podpace set``: other limits for pods that run, asked of the API server before.

What an option says is read as an annotation is. Then every pod is sent as a dry run: policies, the
webhook and the rights of the user are asked, and nothing is changed when one of them says no.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from client.errors import ClientError, UnreachableError, UsageError
from client.kube.pods import PodLimits, read_pod
from contract.names import BURST_KEYS, DIRECTIONS, RATE_KEYS, REQUEST_KEYS, STANDARD_RATE_KEYS
from contract.problems import Problem
from contract.reading import read
from kube.ports import Json

NONE: Final = "none"
"""Takes off what the pod asks for."""
Annotations = Mapping[str, str | None]
"""What to write; None: take it off."""


class Patches(Protocol):
    """What is needed of the API server."""

    def merge(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """A merge patch; the object as it is then. Raises ``ClientError``."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options say of one direction; None: nothing."""

    limit: str | None = None
    burst: str | None = None
    request: str | None = None


class NotAllSetError(ClientError):
    """Some pods were refused; one line for each."""

    @property
    def lines(self) -> tuple[str, ...]:
        """One for each pod."""
        return self.args


def make_annotations(ingress: Wish, egress: Wish) -> Annotations:
    """What the wishes write.

    Raises:
        UsageError: nothing is wished for, or not in a way that is understood.
    """
    wanted: dict[str, str | None] = {}
    options: dict[str, str] = {}
    for direction, wish in zip(DIRECTIONS, (ingress, egress), strict=True):
        for keys, option, text in (
            (RATE_KEYS, f"--{direction}", wish.limit),
            (BURST_KEYS, f"--{direction}-burst", wish.burst),
            (REQUEST_KEYS, f"--{direction}-request", wish.request),
        ):
            if text is not None:
                options[keys[direction]] = option
                wanted[keys[direction]] = None if text == NONE else text
        if wish.limit == NONE:
            # Otherwise the standard one, if it is there, would hold from then on.
            wanted[STANDARD_RATE_KEYS[direction]] = None
    if not wanted:
        raise UsageError("nothing to set: give --ingress, --egress, or one of their -request")
    reading = read({key: text for key, text in wanted.items() if text is not None})
    problems = [
        f'{options[written.key]}: "{written.text}" {written.value.reason}; {written.value.fix}'
        for asked in map(reading.of, DIRECTIONS)
        for written in (asked.rate, asked.burst, asked.request)
        if written is not None and isinstance(written.value, Problem)
    ]
    if problems:
        raise UsageError(*problems)
    return wanted


def try_all(
    cluster: Patches, pods: Iterable[PodLimits], wanted: Annotations
) -> tuple[PodLimits, ...]:
    """The pods as they would be. Raises ``ClientError``: one is refused; says each."""
    return _each(cluster, pods, wanted, dry_run=True)


def set_all(
    cluster: Patches, pods: Iterable[PodLimits], wanted: Annotations
) -> tuple[PodLimits, ...]:
    """The pods as they are now. Raises ``ClientError``: one was refused; the others are changed."""
    return _each(cluster, pods, wanted, dry_run=False)


def _each(
    cluster: Patches, pods: Iterable[PodLimits], wanted: Annotations, *, dry_run: bool
) -> tuple[PodLimits, ...]:
    changed: list[PodLimits] = []
    refused: list[str] = []
    for pod in pods:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        try:
            body = {"metadata": {"annotations": dict(wanted)}}
            changed.append(read_pod(cluster.merge(path, body, dry_run=dry_run)))
        except UnreachableError:
            raise
        except ClientError as error:
            refused.append(f"{pod.namespace}/{pod.name}: {error}")
    if refused:
        raise NotAllSetError(*refused)
    return tuple(changed)
