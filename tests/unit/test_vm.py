"""Virtual machines for the kernel tests: what can be wrong without booting one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import missing
from tests.vm import layer
from tests.vm.kernels import AMD64
from tests.vm.machine import initial_archive

ROOT = Path(__file__).parents[2]


def test_an_initial_file_system_is_one_that_cpio_reads(tmp_path: Path) -> None:
    """Folders to mount on, and each file with its bytes, whatever their number."""
    if shutil.which("busybox") is None:
        missing("needs busybox; run: apt-get install busybox-static")
    files = {f"bin/{size}": bytes(range(size)) for size in range(9)}
    archive = tmp_path / "archive"
    archive.write_bytes(initial_archive(files))

    done = subprocess.run(
        ["busybox", "cpio", "-idmF", archive], cwd=tmp_path, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lower").is_dir()
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


@pytest.mark.parametrize(
    ("kernel", "full", "marks"),
    [
        ("6.1", False, "not native and not counted and not long and not slow_emulated"),
        ("newest", True, "not native and not counted"),
        ("host", False, "not long and not slow_emulated"),
        ("host", True, "long or not long"),
    ],
)
def test_only_a_real_processor_runs_native_tests(kernel: str, full: bool, marks: str) -> None:
    """And only a full run what takes long."""
    command = layer.command(kernel, "installed", AMD64, full=full, counted=False)

    assert command[command.index("-m", command.index("pytest")) + 1] == marks


def test_what_measures_pacing_runs_where_time_is_counted() -> None:
    """Each test in one of the two machines; on this machine's own kernel there is none of these."""
    counted, other = (
        layer.command("6.1", "installed", AMD64, full=True, counted=each) for each in (True, False)
    )

    assert "--counted" in counted
    assert counted[counted.index("pytest") :][4] == "not native and counted"
    assert "--counted" not in other
    assert other[other.index("pytest") :][4] == "not native and not counted"


def test_nobody_asks_for_this_machine_as_it_is() -> None:
    """Its own kernel with its own bcc needs no machine: one line says so."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.vm", "host", "--", "true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.endswith("with this machine's bcc: run the command itself\n")
