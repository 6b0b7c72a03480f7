"""Compile, load and pin the programs: a short-lived child, because bcc maps 120 MB of LLVM.

    python -m enforcer.datapath.compiler SOURCE_DIR PIN_DIR

Exits 0 with everything pinned, or 1 with the reason on standard error and nothing pinned.
"""

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from enforcer.datapath import abi, headers, libbpf, shaper_abi, uncharged
from enforcer.datapath.pins import REFUSED_PREFIX, UNFINISHED_PREFIX

_TRANSIENT = (errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EMFILE, errno.ENFILE)
_PART = re.compile(r'#include "(\w+\.bpf\.c)"')


def joined(source: Path) -> str:
    """The file with the .bpf.c files that it includes in their place.

    bcc rewrites map accesses in the text that it is given, and in no file which that includes.
    """
    lines = [f'#line 1 "{source.name}"']
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if part := _PART.fullmatch(line):
            lines += [joined(source.with_name(part[1])), f'#line {number + 1} "{source.name}"']
        else:
            lines.append(line)
    return "\n".join(lines)


def load(source_dir: Path, *extra_flags: str) -> tuple[object, dict[str, int]]:
    """Compile limiter.bpf.c with bcc and load every program.

    Returns bcc's module, which owns the file descriptors, and the descriptors of programs and
    maps by name. Raises what bcc does.
    """
    with tempfile.TemporaryDirectory(prefix="podpace-headers-") as tree:
        flags = headers.write_tree(Path(tree))
        os.environ["BCC_KERNEL_SOURCE"] = tree
        from bcc import BPF, lib

        module = BPF(
            text=joined(source_dir / "limiter.bpf.c"),
            cflags=[f"-I{source_dir.resolve()}", *flags, *extra_flags],
        )
        fds: dict[str, int] = {}
        for name, kind, hook in zip(
            abi.PROGRAMS,
            (BPF.CGROUP_SKB, BPF.CGROUP_SKB, BPF.SOCK_OPS),
            (libbpf.AttachType.INGRESS, libbpf.AttachType.EGRESS, libbpf.AttachType.SOCK_OPS),
            strict=True,
        ):
            fds[name] = module.load_func(name, kind, attach_type=int(hook)).fd
        for name in (abi.ITERATOR, abi.FILE_ITERATOR):
            fds[name] = module.load_func(name, BPF.TRACING).fd
        for name in abi.MAPS:
            fds[name] = lib.bpf_table_fd(module.module, name.encode())
    return module, fds


@contextlib.contextmanager
def _optional(name: str, refused: list[str]) -> Iterator[None]:
    """Go on without a program that cannot be loaded.

    It is ``refused`` where trying again would change nothing; where the kernel had no memory, say,
    the next daemon tries.
    """
    try:
        yield
    except Exception as error:  # bcc raises nothing narrower
        print(f"no {name}: {error}", file=sys.stderr)
        if not any(os.strerror(n) in str(error) for n in _TRANSIENT):
            refused.append(name)


def load_shaper(source_dir: Path) -> tuple[object, dict[str, int]]:
    """The same for shaper.bpf.c, after :func:`load`: they have a map in common."""
    with tempfile.TemporaryDirectory(prefix="podpace-headers-") as tree:
        flags = headers.write_tree(Path(tree))
        os.environ["BCC_KERNEL_SOURCE"] = tree
        from bcc import BPF, lib

        module = BPF(
            text=joined(source_dir / "shaper.bpf.c"),
            cflags=[f"-I{source_dir.resolve()}", *flags],
        )
        programs = shaper_abi.PROGRAMS
        fds = {name: module.load_func(name, BPF.SCHED_CLS).fd for name in programs}
        for name in shaper_abi.MAPS:
            fds[name] = lib.bpf_table_fd(module.module, name.encode())
    return module, fds


def main(arguments: list[str]) -> int:
    """See the module's docstring."""
    source_dir, pin_dir = (Path(argument).resolve() for argument in arguments)
    refused: list[str] = []
    uncharged.leave_memory_limit()
    try:
        _module, fds = load(source_dir)
    except Exception as error:  # bcc raises nothing narrower
        print(error, file=sys.stderr)
        return 1
    with _optional(shaper_abi.PROGRAM, refused):  # without it, incoming traffic is policed
        _shaper, shaper_fds = load_shaper(source_dir)
        fds |= shaper_fds
    # Half a set of pins must never be adopted.
    unfinished = pin_dir.with_name(f"{UNFINISHED_PREFIX}{pin_dir.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True, mode=0o700)
        for name, fd in fds.items():
            libbpf.obj_pin(fd, str(unfinished / name))
        for name in refused:
            (unfinished / f"{REFUSED_PREFIX}{name}").mkdir()
        unfinished.rename(pin_dir)
    except OSError as error:
        print(f"cannot pin below {pin_dir}: {error}", file=sys.stderr)
        shutil.rmtree(unfinished, ignore_errors=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
