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
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnusableInputError(Exception):
    """The input cannot be read; the message says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class NamedPod:
    """A pod, or the pod that a workload would make."""

    kind: str
    name: str
    namespace: str
    pod: Pod


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A ConfigMap that is a policy, if its namespace is one where such count; see ``scope``."""

    namespace: str
    config_map: ConfigMap

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


Named = NamedPod | NamedPolicy | NamedNamespace


def load(path: str, default_namespace: str) -> Iterator[Named]:
    """Every pod, policy and namespace in a file of one or more documents; ``-`` is standard input.

    Other objects are passed over.

    Raises:
        UnusableInputError: it cannot be read, is not YAML, or has something of a wrong type.
    """
    try:
        text = sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
        documents = list(yaml.load_all(text, _LOADER))
    except OSError as e:
        message = f"{path}: {e.strerror or e}; give the name of a readable file, or - for stdin"
        raise UnusableInputError(message) from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise UnusableInputError(f"{path}: not YAML: {e}") from e
    for position, document in enumerate(documents, start=1):
        if document is not None:
            yield from _objects(document, default_namespace, f"{path}, document {position}")


def _objects(document: object, default_namespace: str, where: str) -> Iterator[Named]:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        message = f"{where}: not a Kubernetes object; it needs apiVersion and kind"
        raise UnusableInputError(message)
    kind: str = document["kind"]
    if kind == "List":
        for item in document.get("items") or ():
            yield from _objects(item, default_namespace, where)
        return
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    namespace = str(metadata.get("namespace") or default_namespace)
    if kind == "ConfigMap" and _may_be_policy(metadata):
        yield NamedPolicy(namespace, _convert(document, ConfigMap, where))
    elif kind == "Namespace":
        read = _convert(metadata, Metadata, where)
        yield NamedNamespace(read.name or "", read.labels or {})
    elif kind in _TEMPLATES:
        template: Any = document
        for step in _TEMPLATES[kind]:
            template = template.get(step) if isinstance(template, dict) else None
        if not isinstance(template, dict):
            message = f"{where}: {kind} has no pod template; write {'.'.join(_TEMPLATES[kind])}"
            raise UnusableInputError(message)
        generated = metadata.get("generateName")
        name = str(metadata.get("name") or (f"{generated}*" if generated else "(no name)"))
        yield NamedPod(kind, name, namespace, _convert(template, Pod, where))


def _may_be_policy(metadata: Mapping[str, Any]) -> bool:
    labels = metadata.get("labels")
    labelled = isinstance(labels, dict) and labels.get(names.LABEL_POLICY)
    return metadata.get("name") == names.POLICY_CONFIG_MAP or bool(labelled)


def _convert(document: object, shape: type[T], where: str) -> T:
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as e:
        hint = "; put numbers and true or false in quotes" if "str" in str(e) else ""
        raise UnusableInputError(f"{where}: {e}{hint}") from e
