"""Reads manifests as people write them: pods, workloads with a pod template, policies."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from contract import names
from contract.policy import Scope, scope_of
from webhook.goyaml import read_documents
from webhook.policies import PolicyKey
from webhook.reviews import ConfigMap, Metadata, Pod

STDIN: Final = "-"
T = TypeVar("T")
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
}
"""Of Kubernetes' own kinds."""
_GROUPS: Final = frozenset({"", "v1", "apps/v1", "batch/v1"})
_LIST: Final = "List"
_OURS: Final = f"{names.DOMAIN}/"
_MOST_REPLICAS: Final = 100_000


class UnusableInputError(Exception):
    """The input cannot be read; the message says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class NamedPod:
    """A pod, or the pod that a workload would make."""

    kind: str
    name: str
    namespace: str
    pod: Pod
    metadata: Metadata
    """The workload's own; a pod's is its pod's."""
    written_twice: tuple[str, ...] = ()
    replicas: int = 1

    @property
    def pod_name(self) -> str:
        """With a ``*`` where one is made up behind the workload's."""
        own = self.metadata.name
        return self.name if self.kind == "Pod" else f"{own}-*" if own else self.name


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A ConfigMap that is a policy, if its namespace is one where such count; see ``scope``."""

    namespace: str
    config_map: ConfigMap
    written_twice: tuple[str, ...] = ()

    @property
    def key(self) -> PolicyKey:
        """Where it is."""
        return PolicyKey(self.namespace, self.config_map.metadata.name or "")

    def scope(self, release_namespace: str) -> Scope | None:
        """Whom it is about; None: it is no policy."""
        labels = self.config_map.metadata.labels or {}
        return scope_of(*self.key, labels, release_namespace)


@dataclass(frozen=True, slots=True)
class NamedNamespace:
    """A namespace; policies select it by its labels."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NamedQuota:
    """A ResourceQuota, as far as it is about bandwidth."""

    namespace: str
    name: str
    hard: Mapping[str, str]


Named = NamedPod | NamedPolicy | NamedNamespace | NamedQuota


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file."""

    documents: int
    """That are not empty."""
    named: tuple[Named, ...]


def load(path: str, default_namespace: str) -> Loaded:
    """Every pod, policy and namespace in a file of one or more documents; ``-`` is standard input.

    Lists are opened, and in kinds that we do not know pod templates are looked for. What has
    neither is passed over.

    Raises:
        UnusableInputError: it cannot be read, is not YAML, or has something of a wrong type.
    """
    try:
        text = sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
        documents = list(read_documents(text))
    except OSError as e:
        message = f"{path}: {e.strerror or e}; give the name of a readable file, or - for stdin"
        raise UnusableInputError(message) from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise UnusableInputError(f"{path}: not YAML: {e}") from e
    named: list[Named] = []
    for position, (document, twice) in enumerate(documents, start=1):
        if document is not None:
            where = f"{path}, document {position}"
            named += _Reader(default_namespace, where, twice).read(document)
    return Loaded(sum(document is not None for document, _ in documents), tuple(named))


@dataclass(frozen=True, slots=True)
class _Reader:
    default_namespace: str
    where: str
    twice: tuple[str, ...]

    def read(self, document: object, listed: str = "") -> Iterator[Named]:
        """``listed``: the kind of what is in a list whose items do not say it."""
        kind = document.get("kind") or listed if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(kind, str) or not kind:
            message = f"{self.where}: not a Kubernetes object; it needs apiVersion and kind"
            raise UnusableInputError(message)
        if kind.endswith(_LIST) and isinstance(document.get("items") or [], list):
            for item in document.get("items") or ():
                yield from self.read(item, kind.removesuffix(_LIST))
            return
        metadata = self._convert(_texts(document.get("metadata") or {}), Metadata)
        namespace = metadata.namespace or self.default_namespace
        if kind == "ConfigMap" and _may_be_policy(metadata):
            config_map = self._convert(_texts(document, "data"), ConfigMap)
            yield NamedPolicy(namespace, config_map, self.twice)
            return
        if kind == "Namespace":
            yield NamedNamespace(metadata.name or "", metadata.labels or {})
            return
        if kind == "ResourceQuota":
            yield NamedQuota(namespace, metadata.name or "", _hard(document))
            return
        generated = metadata.generate_name
        name = metadata.name or (f"{generated}*" if generated else "(no name)")
        for where, template in self._templates(kind, document):
            pod = self._convert(_texts(template), Pod)
            shown = f"{name} ({where})" if where else name
            replicas = _replicas(document.get("spec"))
            yield NamedPod(kind, shown, namespace, pod, metadata, self.twice, replicas)

    def _templates(self, kind: str, document: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
        if kind not in _TEMPLATES or (document.get("apiVersion") or "") not in _GROUPS:
            yield from _search(document, "")
            return
        template: Any = document
        for step in _TEMPLATES[kind]:
            template = template.get(step) if isinstance(template, dict) else None
        if not isinstance(template, dict):
            path = ".".join(_TEMPLATES[kind])
            message = f"{self.where}: {kind} has no pod template; write {path}"
            raise UnusableInputError(message)
        yield "", template

    def _convert(self, document: object, shape: type[T]) -> T:
        try:
            return msgspec.convert(document, shape)
        except msgspec.ValidationError as e:
            hint = "; put numbers and true or false in quotes" if "str" in str(e) else ""
            raise UnusableInputError(f"{self.where}: {e}{hint}") from e


def _search(found: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Pod templates: whatever has a spec with containers."""
    if isinstance(found, dict):
        spec = found.get("spec")
        if path and isinstance(spec, dict) and isinstance(spec.get("containers"), list):
            yield path, found
            return
        for key, value in found.items():
            yield from _search(value, f"{path}.{key}" if path else str(key))
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from _search(value, f"{path}[{number}]")


def _texts(found: Any, *keys: str) -> Any:
    """A copy where maps of texts have no nulls: the API server reads those as empty texts."""
    if not isinstance(found, dict):
        return found
    copied = dict(found)
    for key in keys or ("labels", "annotations"):
        if isinstance(copied.get(key), dict):
            copied[key] = {k: "" if v is None else v for k, v in copied[key].items()}
    if isinstance(copied.get("metadata"), dict):
        copied["metadata"] = _texts(copied["metadata"])
    return copied


def _hard(document: dict[Any, Any]) -> dict[str, str]:
    """Quantities may be written as numbers."""
    spec = document.get("spec")
    hard = spec.get("hard") if isinstance(spec, dict) else None
    ours = (hard if isinstance(hard, dict) else {}).items()
    return {
        str(k): str(v)
        for k, v in ours
        if str(k).partition(".")[2].startswith(_OURS) or str(k).startswith(_OURS)
    }


def _replicas(spec: object) -> int:
    """How many pods of it there are to be; one where nothing of the kind is said."""
    found = spec.get("replicas", 1) if isinstance(spec, dict) else 1
    return found if isinstance(found, int) and 0 <= found <= _MOST_REPLICAS else 1


def _may_be_policy(metadata: Metadata) -> bool:
    labelled = bool((metadata.labels or {}).get(names.LABEL_POLICY))
    return metadata.name == names.POLICY_CONFIG_MAP or labelled
