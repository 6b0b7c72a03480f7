"""The BPF datapath: the only folder that imports bcc, and only in a child process."""

from pathlib import Path

from enforcer.datapath.kernel import KernelDatapath
from enforcer.datapath.pins import SOURCE_DIR


def build(
    pin_root: Path,
    cgroup_root: Path,
    source_dir: Path = SOURCE_DIR,
    *,
    compile_missing: bool = True,
) -> KernelDatapath:
    """The datapath of this machine; compiles only when today's programs are not pinned.

    Without ``compile_missing`` never: then it can observe and detach, no more.
    Raises UnsupportedError where something is missing, DatapathError where the kernel refuses.
    """
    return KernelDatapath(pin_root, cgroup_root, source_dir, compile_missing=compile_missing)
