"""A large review made small: what decisions read of it, and no more. Pure, and a process.

Reading megabytes keeps Python's one lock for tens of milliseconds, in which no other review could
be answered. So a process of its own reads them (``python -m webhook.digest``, started and asked by
``large.py``): it takes a file from its socket, puts the digest in its place, and answers one byte.
It imports little, so that it costs little memory.
"""

import mmap
import os
import signal
import socket
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from contract import names
from contract.problems import KEY_CHARS, TEXT_CHARS, clip
from contract.reading import MISPLACED_LABELS, OUR_ANNOTATIONS, OUR_PREFIX, STANDARD_ANNOTATIONS
from contract.unknown import MAX_UNKNOWN
from webhook.reviews import (
    ConfigMap,
    Metadata,
    Pod,
    PodSpec,
    Request,
    Review,
    Workload,
    WorkloadSpec,
)

MAX_MAP_BYTES: Final = 2 * 1024 * 1024
"""Of a pod's labels or annotations, as JSON. The API server takes 256 KiB of annotations, which are
1.5 MiB of JSON at most, and half of one more for quotes and commas."""
MAX_POLICY_BYTES: Final = 64 * 1024
"""Of a policy's data, as JSON: its keys, and 64 networks, are a tenth of that."""
DONE: Final = b"+"
UNUSABLE: Final = b"-"
_VALUE_CHARS: Final = 8192
"""Of an annotation that means something; no value that can be read is as long."""
_NAME_CHARS: Final = 253
_MAX_GATES: Final = 1000
_MAX_SPEC_BYTES: Final = 64 * 1024
"""Of what says where a pod may be; who says more is taken to be anywhere."""
_NULL: Final = Raw(b"null")
_KNOWN: Final = OUR_ANNOTATIONS | STANDARD_ANNOTATIONS | {names.ANNOTATION_MIRROR}
_LABELS: Final = frozenset((*names.OUR_LABELS, *MISPLACED_LABELS))

Buffer = bytes | memoryview | mmap.mmap


class _Metadata(Struct, rename="camel"):
    name: str | None = None
    generate_name: str | None = None
    labels: Raw = _NULL
    annotations: Raw = _NULL


class _Pod(Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class _Workload(Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: WorkloadSpec[_Pod] = msgspec.field(default_factory=WorkloadSpec)


class _ConfigMap(Struct, rename="camel"):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    data: Raw = _NULL
    binary_data: Raw = _NULL


_pods: Final = msgspec.json.Decoder(Review[_Pod])
_config_maps: Final = msgspec.json.Decoder(Review[_ConfigMap])
_workloads: Final = msgspec.json.Decoder(Review[_Workload])
_maps: Final = msgspec.json.Decoder(dict[str, str] | None)


def digest(route: str, body: Buffer) -> bytes:
    """A review that is decided as the one in ``body`` is.

    Raises:
        ValueError, RecursionError: ``body`` is none.
    """
    return _DIGESTS[route](body)


def _digest_pod(body: Buffer) -> bytes:
    return _encode(_pods.decode(body), _small_pod)


def _digest_config_map(body: Buffer) -> bytes:
    return _encode(_config_maps.decode(body), _small_config_map)


def _digest_workload(body: Buffer) -> bytes:
    return _encode(_workloads.decode(body), _small_workload)


_DIGESTS: Final[dict[str, Callable[[Buffer], bytes]]] = {
    "mutate": _digest_pod,
    "validate": _digest_config_map,
    "workloads": _digest_workload,
}


def _encode(review: Review[Any], small: Callable[[Any], Any]) -> bytes:
    request: Request[Any] = review.request
    if len(request.uid) > _NAME_CHARS:
        raise ValueError("its uid is none")
    request.name = clip(request.name, _NAME_CHARS)
    request.namespace = clip(request.namespace, _NAME_CHARS)
    for name in ("object", "old_object"):
        found = getattr(request, name)
        if found is not None:
            setattr(request, name, small(found))
    return msgspec.json.encode(review)


def _small_pod(pod: _Pod) -> Pod:
    metadata = _small_metadata(pod.metadata)
    metadata.oversized |= len(pod.spec.readiness_gates or ()) > _MAX_GATES
    spec = PodSpec() if metadata.oversized else pod.spec
    if len(msgspec.json.encode(spec)) > _MAX_SPEC_BYTES:
        spec = PodSpec(
            readiness_gates=spec.readiness_gates,
            containers=spec.containers,
            init_containers=spec.init_containers,
            overhead=spec.overhead,
        )
        summed = (spec.containers, spec.init_containers, spec.overhead)
        if len(msgspec.json.encode(summed)) > _MAX_SPEC_BYTES:
            metadata.oversized, spec = True, PodSpec()
    return Pod(metadata, spec)


def _small_workload(workload: _Workload) -> Workload:
    template = workload.spec.pod
    pod = _small_pod(template) if template else None
    return Workload(_small_metadata(workload.metadata), WorkloadSpec(template=pod))


def _small_metadata(found: _Metadata) -> Metadata:
    labels, annotations = (_read(raw, MAX_MAP_BYTES) for raw in (found.labels, found.annotations))
    metadata = Metadata(
        name=clip(found.name or "", _NAME_CHARS),
        generate_name=clip(found.generate_name or "", _NAME_CHARS),
        labels=_known(labels, _LABELS),
        annotations=_known(annotations, _KNOWN),
        oversized=labels is _OVERSIZED or annotations is _OVERSIZED,
    )
    if annotations is not None and metadata.annotations is not None:
        unknown = (k for k in annotations if k.startswith(OUR_PREFIX) and k not in _KNOWN)
        metadata.annotations |= _first(unknown, annotations)
    return metadata


def _small_config_map(config_map: _ConfigMap) -> ConfigMap:
    data = _read(config_map.data, MAX_POLICY_BYTES)
    binary = _read(config_map.binary_data, MAX_POLICY_BYTES)
    return ConfigMap(
        Metadata(
            name=clip(config_map.metadata.name or "", _NAME_CHARS),
            labels=_ours(_read(config_map.metadata.labels, MAX_MAP_BYTES)),
            oversized=data is _OVERSIZED or binary is _OVERSIZED,
        ),
        data,
        binary,
    )


_OVERSIZED: Final[dict[str, str]] = {}


def _read(raw: Raw, most_bytes: int) -> dict[str, str] | None:
    if len(memoryview(raw)) > most_bytes:
        return _OVERSIZED
    return _maps.decode(raw)


def _known(found: dict[str, str] | None, keys: frozenset[str]) -> dict[str, str] | None:
    # An empty map is not the same as none: a patch has to add what is not there.
    if found is None:
        return None
    return {key: clip(found[key], _VALUE_CHARS) for key in keys if key in found}


def _ours(labels: dict[str, str] | None) -> dict[str, str] | None:
    ours = (key for key in labels or () if key.startswith(OUR_PREFIX))
    return None if labels is None else {key: labels[key] for key in islice(ours, MAX_UNKNOWN)}


def _first(keys: Iterable[str], found: dict[str, str]) -> dict[str, str]:
    """The first unknown keys, and one more, which tells that there are more."""
    taken: dict[str, str] = {}
    for key in keys:
        taken[clip(key, KEY_CHARS)] = clip(found[key], TEXT_CHARS)
        if len(taken) > MAX_UNKNOWN:
            break
    return taken


def _digest_file(route: str, descriptor: int) -> bytes:
    return digest(route, mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))


def main() -> None:
    """Answers on standard input, which is a socket, until it is closed."""
    # An interrupt at a terminal is for the process that started this one, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=0) as channel:
        while True:
            route, descriptors, _, _ = socket.recv_fds(channel, 64, 1)
            if not descriptors:
                return
            [descriptor] = descriptors
            try:
                content, answer = _digest_file(route.decode(), descriptor), DONE
            except (ValueError, RecursionError) as e:
                content, answer = (str(e) or "nested too deeply")[:300].encode(), UNUSABLE
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
            os.close(descriptor)
            channel.send(answer)


if __name__ == "__main__":
    main()
