"""Whether a target's interfaces send packets at their departure times."""

from enforcer.net.links import interfaces_inside
from enforcer.net.namespaces import network_namespaces
from enforcer.net.queues import POD_HANDLE


def keeps_departure_times(cgroup_path: str) -> bool:
    """Whether every interface of the cgroup's processes that is up has ``fq`` as its root queue,
    or our queues with ``fq`` inside.

    False where there is no process yet, or where it cannot be found out.
    """
    try:
        namespaces = network_namespaces([cgroup_path])
        found = [inside for path in namespaces.values() for inside in interfaces_inside(path)]
    except OSError:
        return False
    up = [inside for inside in found if inside.interface.is_up]
    return bool(up) and all(
        inside.root_kind == "fq" or inside.root_handle == POD_HANDLE for inside in up
    )
