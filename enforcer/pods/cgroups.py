"""Pure: which pod a cgroup belongs to, by its name, as kubelets write it.

cgroupfs driver  kubepods/burstable/pod<UID>
systemd driver   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID>.slice, with
                 underscores for dashes in the UID

Guaranteed pods lack the QoS part; kind and k3s put all of it below other folders. With the systemd
driver the kubelet's ``--cgroup-root`` comes before each name: kind's ``kubelet-``, or ``my_root-``
for ``/my-root``.
"""

import re
from collections.abc import Mapping
from typing import Final

_UID: Final = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD: Final = re.compile(
    rf"pod({_UID})|(?:[^/]+-)?kubepods(?:-burstable|-besteffort)?-pod({_UID})\.slice"
)


def pod_uid(folder_name: str) -> str | None:
    """The uid of the pod whose own cgroup has this name; None for every other cgroup.

    32 digits without a dash are a static pod's: the hash of its configuration.
    """
    match = _POD.fullmatch(folder_name)
    if match is None:
        return None
    uid: str = match[1] or match[2]
    return uid.replace("_", "-")


def choose_cgroup(populated: Mapping[str, bool], held: str | None) -> str | None:
    """Which of the cgroups that carry one pod's uid is the pod's, and None where there is none.

    ``populated`` says of each, in the order in which they were found, whether processes are in it.
    A kubelet that changed its cgroup driver leaves an empty one behind. Among equals the one whose
    limits are ``held`` stays, then the first.
    """
    inhabited = [path for path, has_processes in populated.items() if has_processes]
    candidates = inhabited or list(populated)
    return held if held in candidates else next(iter(candidates), None)
