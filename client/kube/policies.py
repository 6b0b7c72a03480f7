"""The policies that bear on a namespace, read as the user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from client.errors import ClientError, UnreachableError
from client.kube.api import NotFoundError
from contract import names
from contract.merging import Layer, select
from contract.names import Source
from contract.policy import parse_policy, scope_of

Json = dict[str, Any]


class Reader(Protocol):
    """What is needed of ``client.kube.api.Cluster``."""

    def get(self, path: str) -> Json:
        """One object."""
        ...

    def list(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """All items."""
        ...


@dataclass(frozen=True, slots=True)
class Policies:
    """What holds in one namespace, as far as the user may see it."""

    own: Layer | None
    cluster: tuple[Layer, ...]
    """Who is heard first is first."""
    problems: tuple[str, ...] = ()
    """What cannot be read, and what in them is wrong."""
    complete: bool = True
    """Whether all of them were seen."""
    left_out: bool = False
    """Whether the namespace is out of admission and audit, as far as its name and labels tell."""


def read_policies(reader: Reader, namespace: str, release_namespace: str) -> Policies:
    """Without the right to read some of them, the rest.

    Raises:
        UnreachableError: the API server does not answer.
    """
    problems: list[str] = []
    layers: dict[str, list[Layer]] = {namespace: [], release_namespace: []}
    labels: Mapping[str, str] | None = None
    complete = True
    try:
        labels = reader.get(f"/api/v1/namespaces/{namespace}")["metadata"].get("labels") or {}
        for config_map in _config_maps(reader, release_namespace):
            _keep(config_map, layers, release_namespace, problems)
    except UnreachableError:
        raise
    except ClientError as error:
        complete = False
        problems.append(f"the cluster's policies are not seen: {error}")
    if namespace != release_namespace:
        found = _named(reader, namespace)
        if found is not None:
            _keep(found, layers, release_namespace, problems)
    own = layers[namespace][0] if namespace != release_namespace and layers[namespace] else None
    exempt = namespace in names.ALWAYS_EXEMPT_NAMESPACES or namespace == release_namespace
    left_out = exempt or names.LABEL_NAMESPACE_IGNORE in (labels or {})
    cluster = select(layers[release_namespace], labels)
    return Policies(own, cluster, tuple(problems), complete, left_out)


def _config_maps(reader: Reader, release_namespace: str) -> list[Json]:
    selector = {"labelSelector": f"{names.LABEL_POLICY}={names.LABEL_POLICY_VALUE}"}
    found = reader.list(f"/api/v1/namespaces/{release_namespace}/configmaps", selector)
    found = [o for o in found if o["metadata"]["name"] != names.POLICY_CONFIG_MAP]
    for_all = _named(reader, release_namespace)
    return found if for_all is None else [*found, for_all]


def _named(reader: Reader, namespace: str) -> Json | None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/{names.POLICY_CONFIG_MAP}"
    try:
        return reader.get(path)
    except NotFoundError:
        return None


def _keep(
    config_map: Json,
    layers: Mapping[str, list[Layer]],
    release_namespace: str,
    problems: list[str],
) -> None:
    metadata = config_map["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    scope = scope_of(namespace, name, metadata.get("labels") or {}, release_namespace)
    if scope is None:
        return
    policy, wrong = parse_policy(config_map.get("data") or {}, scope)
    source = Source.CLUSTER if namespace == release_namespace else Source.NAMESPACE
    layer = Layer(namespace, name, source, policy)
    layers[namespace].append(layer)
    problems.extend(f"{layer.place}: {problem}" for problem in wrong)
