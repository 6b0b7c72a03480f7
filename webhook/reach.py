"""Whether an enforcer can be on a node that a pod may be placed on, as far as admission can know.

Both are bound to nodes by labels; where no node can carry the labels that both ask for, nobody
holds the pod's limit, and nobody opens a readiness gate. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Struct

_OS: Final = "kubernetes.io/os"
_EKS_COMPUTE: Final = "eks.amazonaws.com/compute-type"
_SCHEDULER_LABELS: Final = {"fargate-scheduler": (_EKS_COMPUTE, "fargate")}
"""Of schedulers whose nodes are a provider's own: EKS Fargate's."""
_MAX_TERMS: Final = 32
"""Who asks for more alternatives is taken to reach an enforcer: comparing costs."""


class Requirement(Struct):
    """A NodeSelectorRequirement."""

    key: str
    operator: str
    values: list[str] | None = None


class Term(Struct, rename="camel"):
    """A NodeSelectorTerm: all of its requirements; fields of nodes are not looked at."""

    match_expressions: list[Requirement] | None = None


class NodeSelector(Struct, rename="camel"):
    """Any of its terms."""

    node_selector_terms: list[Term] | None = None


class NodeAffinity(Struct):
    """What is required; what is preferred binds nobody."""

    required: NodeSelector | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(Struct, rename="camel"):
    """Affinity, as far as it is about nodes."""

    node_affinity: NodeAffinity | None = None


class PodOS(Struct):
    """``spec.os``."""

    name: str


class Placement(Struct, rename="camel"):
    """The part of a PodSpec that says which nodes it may be on."""

    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    scheduler_name: str | None = None
    os: PodOS | None = None


_VIRTUAL: Final = (
    # Virtual kubelets, and Azure's virtual nodes; no DaemonSet runs there.
    Requirement("type", "NotIn", ["virtual-kubelet"]),
    Requirement(_EKS_COMPUTE, "NotIn", ["fargate"]),
)
LINUX: Final = Placement(node_selector={_OS: "linux"})
"""Where enforcers are, if nothing else is said."""


@dataclass(slots=True)
class _Label:
    """What is asked of one label."""

    allowed: frozenset[str] | None = None
    excluded: set[str] = field(default_factory=set)
    present: bool = False
    absent: bool = False

    def add(self, requirement: Requirement) -> None:
        values = frozenset(requirement.values or ())
        match requirement.operator:
            case "In":
                self.allowed = values if self.allowed is None else self.allowed & values
            case "NotIn":
                self.excluded |= values
            case "DoesNotExist":
                self.absent = True
            case _:
                self.present = True

    def satisfiable(self) -> bool:
        if self.absent:
            return self.allowed is None and not self.present
        return self.allowed is None or bool(self.allowed - self.excluded)


def can_reach(pod: Placement, enforcer: Placement) -> bool:
    """Whether some node may carry both."""
    always = (*_always(pod), *_always(enforcer), *_VIRTUAL)
    ours, theirs = _terms(pod), _terms(enforcer)
    if len(ours) > _MAX_TERMS or len(theirs) > _MAX_TERMS:
        return True
    return any(_satisfiable((*always, *one, *other)) for one in ours for other in theirs)


def _always(placement: Placement) -> list[Requirement]:
    selected = dict(placement.node_selector or {})
    found = [Requirement(key, "In", [value]) for key, value in selected.items()]
    if placement.os is not None:
        found.append(Requirement(_OS, "In", [placement.os.name]))
    if placement.scheduler_name in _SCHEDULER_LABELS:
        key, value = _SCHEDULER_LABELS[placement.scheduler_name]
        found.append(Requirement(key, "In", [value]))
    return found


def _terms(placement: Placement) -> Sequence[Sequence[Requirement]]:
    affinity = placement.affinity.node_affinity if placement.affinity else None
    required = affinity.required if affinity else None
    terms = (required.node_selector_terms if required else None) or []
    return [term.match_expressions or [] for term in terms] or [[]]


def _satisfiable(requirements: Iterable[Requirement]) -> bool:
    labels: dict[str, _Label] = {}
    for requirement in requirements:
        labels.setdefault(requirement.key, _Label()).add(requirement)
    return all(label.satisfiable() for label in labels.values())
