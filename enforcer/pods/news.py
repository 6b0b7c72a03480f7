"""What the pod loop is told, by the API server and by the cgroup tree."""

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

    @property
    def uid(self) -> str:
        """In its cgroup's name."""
        return self.pod.cgroup_uid


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod was deleted, or is not labelled as limited any more."""

    pod: Pod

    @property
    def uid(self) -> str:
        """In its cgroup's name."""
        return self.pod.cgroup_uid


@dataclass(frozen=True, slots=True)
class PodFound:
    """What the API server answered when it was asked for one pod by its name."""

    uid: str
    """The pod that was asked for, by the uid in its cgroup's name."""
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
class PodUnlisted:
    """A list of all limited pods does not have it."""

    uid: str


News = (
    PodChanged
    | PodGone
    | PodUnlisted
    | PodFound
    | CgroupAppeared
    | CgroupPopulated
    | CgroupVanished
)
"""Of one pod; ``uid`` is the one in its cgroup's name."""
