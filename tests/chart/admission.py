"""Platforms' admission rules as pure functions: what each has against a pod.

Kubernetes' Pod Security Standards (kubernetes.io/docs/concepts/security/pod-security-standards) and
OpenShift's SecurityContextConstraints (openshift/cluster-kube-apiserver-operator, bindata, 2025).
"""

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

_BASELINE_CAPABILITIES: Final = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
_SELINUX_TYPES: Final = {
    *("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"),
}
_SAFE_VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}
RESTRICTED_V2: Final[Json] = {
    "allowHostDirVolumePlugin": False,
    "allowHostIPC": False,
    "allowHostNetwork": False,
    "allowHostPID": False,
    "allowHostPorts": False,
    "allowPrivilegeEscalation": False,
    "allowPrivilegedContainer": False,
    "allowedCapabilities": ["NET_BIND_SERVICE"],
    "fsGroup": {"type": "MustRunAs"},
    "readOnlyRootFilesystem": False,
    "requiredDropCapabilities": ["ALL"],
    "runAsUser": {"type": "MustRunAsRange"},
    "seLinuxContext": {"type": "MustRunAs"},
    "seccompProfiles": ["runtime/default"],
    "supplementalGroups": {"type": "RunAsAny"},
    "volumes": [*sorted(_SAFE_VOLUMES), "image"],
}
UID_RANGE: Final = range(1_000_680_000, 1_000_690_000)
"""Such as OpenShift gives a namespace; from it come users and file system groups."""


def _containers(spec: Json) -> Iterator[tuple[Json, Json]]:
    """Each with what holds of its security context: its own, else the pod's."""
    shared = {"runAsUser", "runAsNonRoot", "seccompProfile", "seLinuxOptions", "appArmorProfile"}
    of_pod = {k: v for k, v in (spec.get("securityContext") or {}).items() if k in shared}
    for container in (*(spec.get("initContainers") or []), *spec["containers"]):
        yield container, of_pod | (container.get("securityContext") or {})


def _volume_kinds(spec: Json) -> set[str]:
    return {k for volume in spec.get("volumes") or [] for k in volume if k != "name"}


def baseline(spec: Json) -> Iterator[str]:
    """What the level ``baseline`` refuses."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    if "hostPath" in _volume_kinds(spec):
        yield "hostPath volumes"
    if (spec.get("securityContext") or {}).get("sysctls"):
        yield "sysctls"
    for container, context in _containers(spec):
        if context.get("privileged"):
            yield "privileged"
        if set((context.get("capabilities") or {}).get("add") or ()) - _BASELINE_CAPABILITIES:
            yield "capabilities"
        if any(port.get("hostPort") for port in container.get("ports") or ()):
            yield "host ports"
        if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
            yield "AppArmor"
        if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
            yield "seccomp"
        options = context.get("seLinuxOptions") or {}
        wrong_type = options.get("type", "") not in _SELINUX_TYPES
        if wrong_type or options.get("user") or options.get("role"):
            yield "SELinux"
        if context.get("procMount", "Default") != "Default":
            yield "procMount"


def restricted(spec: Json) -> Iterator[str]:
    """What the level ``restricted`` refuses."""
    yield from baseline(spec)
    if _volume_kinds(spec) - _SAFE_VOLUMES:
        yield "volume types"
    for _, context in _containers(spec):
        if context.get("allowPrivilegeEscalation") is not False:
            yield "privilege escalation"
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield "running as root"
        if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield "seccomp"
        capabilities = context.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            yield "capabilities that are kept"
        if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
            yield "capabilities"


def constraints(spec: Json, scc: Json) -> Iterator[str]:
    """What SecurityContextConstraints have against a pod of a namespace with ``UID_RANGE``."""
    for field in ("HostNetwork", "HostPID", "HostIPC"):
        if spec.get(field[0].lower() + field[1:]) and not scc[f"allow{field}"]:
            yield field
    kinds = _volume_kinds(spec) - ({"hostPath"} if scc["allowHostDirVolumePlugin"] else set())
    if kinds - set(scc["volumes"]):
        yield "volumes"
    group = (spec.get("securityContext") or {}).get("fsGroup")
    if scc["fsGroup"]["type"] == "MustRunAs" and group not in (None, UID_RANGE.start):
        yield "fsGroup"
    for container, context in _containers(spec):
        yield from _container(container, context, scc)


def _container(container: Json, context: Json, scc: Json) -> Iterator[str]:
    if context.get("privileged") and not scc["allowPrivilegedContainer"]:
        yield "privileged"
    if context.get("allowPrivilegeEscalation") and not scc["allowPrivilegeEscalation"]:
        yield "allowPrivilegeEscalation"
    opened = any(port.get("hostPort") for port in container.get("ports") or ())
    if opened and not scc["allowHostPorts"]:
        yield "hostPorts"
    if set((context.get("capabilities") or {}).get("add") or ()) - set(scc["allowedCapabilities"]):
        yield "capabilities"
    user = context.get("runAsUser")
    if scc["runAsUser"]["type"] == "MustRunAsRange" and user is not None and user not in UID_RANGE:
        yield "runAsUser"
    if scc["seLinuxContext"]["type"] == "MustRunAs" and context.get("seLinuxOptions"):
        yield "seLinuxOptions"
    profile = (context.get("seccompProfile") or {}).get("type", "RuntimeDefault")
    if profile != "RuntimeDefault" or "runtime/default" not in scc["seccompProfiles"]:
        yield "seccompProfile"
    if scc["readOnlyRootFilesystem"] and not context.get("readOnlyRootFilesystem"):
        yield "readOnlyRootFilesystem"
