"""Where kubelets put the cgroups of pods and containers."""

import secrets
from dataclasses import dataclass
from typing import Final

from tests.cluster.client import Json


@dataclass(frozen=True, slots=True)
class Layout:
    """A kubelet's cgroup driver, and what its cgroups are below."""

    systemd: bool
    parent: str = ""
    """As kind (``kubelet.slice/kubelet``) and k3s in a container do."""

    def pod(self, uid: str, qos: str) -> str:
        """The pod's cgroup, relative to the node's root."""
        level = "" if qos == "Guaranteed" else qos.lower()
        if not self.systemd:
            return "/".join(filter(None, (self.parent, "kubepods", level, f"pod{uid}")))
        folder, _, prefix = self.parent.rpartition("/")
        names, name = [folder] if folder else [], prefix
        for part in filter(None, ("kubepods", level, f"pod{uid.replace('-', '_')}")):
            name = f"{name}-{part}" if name else part
            names.append(f"{name}.slice")
        return "/".join(names)

    def container(self) -> str:
        """The folder of a new container."""
        container_id = secrets.token_hex(32)
        return f"cri-containerd-{container_id}.scope" if self.systemd else container_id


CGROUPFS: Final = Layout(systemd=False)
SYSTEMD: Final = Layout(systemd=True)
KIND: Final = Layout(systemd=True, parent="kubelet.slice/kubelet")


def qos_class(pod: Json) -> str:
    """As the API server has decided it."""
    return str(pod["status"].get("qosClass", "BestEffort"))
