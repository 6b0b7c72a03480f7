"""The daemon with the real datapath on a machine where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from enforcer.datapath import libbpf, probes
from tests.needs import missing
from tests.processes import AS_NOBODY, HANGS_SECONDS, options

pytestmark = pytest.mark.slow_emulated

ENFORCER = str(Path(sys.executable).with_name("podpace-enforcer"))


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        missing("not root, so the next thing that is missing is never reached: use sudo")


def _one_line(*command: str, **more: object) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False, **more
    )  # type: ignore[call-overload]
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("podpace-enforcer: ")


def test_somebody_else_than_root_is_told_to_use_sudo(tmp_path):
    """Before anything is written."""
    line = _one_line(*AS_NOBODY, ENFORCER, *options(tmp_path), cwd="/")

    assert line.startswith("the enforcer must run as root; start it with sudo")


def test_without_bpffs_the_line_says_how_to_mount_it(tmp_path):
    """And neither socket nor state is left."""
    line = _one_line(ENFORCER, *options(tmp_path))

    assert line.endswith("is not on a BPF file system; run: mount -t bpf bpf /sys/fs/bpf\n")
    assert list(tmp_path.iterdir()) == []


def test_without_bcc_the_line_names_the_package(tmp_path):
    """The compiling child cannot import it; nothing is pinned."""
    bpffs = tmp_path / "pins"
    bpffs.mkdir()
    # In a mount namespace of its own, where Debian's Python packages are hidden.
    hide = (
        "mount -t bpf bpf $0 && mount -t tmpfs none /usr/lib/python3/dist-packages || exit 9; "
        '"$@"; code=$?; find $0/podpace -type f >&2; exit $code'
    )

    line = _one_line(
        "unshare", "--mount", "sh", "-c", hide, str(bpffs),
        ENFORCER, *options(tmp_path)[:-1], str(bpffs / "podpace"),
    )  # fmt: skip

    assert line == "bcc is missing; run: apt-get install python3-bpfcc\n"
    assert not (tmp_path / "run").exists()


def test_a_kernel_is_asked_for_helpers_and_not_for_its_version():
    """This one knows what is needed, and says no of what no kernel has."""
    probes.require_kernel()

    assert libbpf.lacks_helper(5, 9999)
