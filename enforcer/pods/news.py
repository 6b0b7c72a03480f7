"""What the pod loop is told, by the API server, by the cgroup tree and by the clock."""

from dataclasses import dataclass

from enforcer.pods.pod import Pod


@dataclass(frozen=True, slots=True)
class PodsListed:
    """These are all limited pods of the node."""

    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class PodChanged:
    """A pod is new or another one than before."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod was deleted, or is not labelled as limited any more."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PodFound:
    """What the API server answered when it was asked for one pod by its name."""

    cgroup_uid: str
    """The pod that was asked for."""
    pod: Pod | None
    """The pod of that name today; None: there is none."""


@dataclass(frozen=True, slots=True)
class CgroupAppeared:
    """The pod's own cgroup is there; its containers' may follow."""

    uid: str
    path: str


@dataclass(frozen=True, slots=True)
class CgroupPopulated:
    """The first process has come into the pod's own cgroup or one below, or the last has gone."""

    uid: str
    path: str
    populated: bool


@dataclass(frozen=True, slots=True)
class CgroupVanished:
    """The pod's own cgroup was removed."""

    uid: str
    path: str


@dataclass(frozen=True, slots=True)
class Looked:
    """How a cgroup's limits are held may have changed since it was told last."""

    path: str


@dataclass(frozen=True, slots=True)
class Resynced:
    """Everything was looked at again."""

    repaired: frozenset[str] = frozenset()
    """Cgroup paths where something of ours had been taken off or changed, and is back."""


News = (
    PodsListed
    | PodChanged
    | PodGone
    | PodFound
    | CgroupAppeared
    | CgroupPopulated
    | CgroupVanished
    | Looked
    | Resynced
)
