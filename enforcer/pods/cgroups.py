"""Pure: which pod a cgroup belongs to, by its name, as kubelets write it.

cgroupfs driver  kubepods/burstable/pod<UID>
systemd driver   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID>.slice, with
                 underscores for dashes in the UID

Guaranteed pods lack the QoS part; kind and k3s put all of it below other folders, and kind puts
``kubelet-`` before each systemd name.
"""

import re
from typing import Final

_UID: Final = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD: Final = re.compile(
    rf"pod({_UID})|(?:[a-z0-9]+-)*kubepods(?:-burstable|-besteffort)?-pod({_UID})\.slice"
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
