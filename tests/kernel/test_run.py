"""``podpace run`` with real cgroups and real processes; the datapath is a fake."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer.errors import UnsupportedError
from enforcer.targets import find_cgroup_root
from tests.needs import missing
from tests.processes import HANGS_SECONDS, PODPACE, ROOT, Daemon, enforcer

pytestmark = pytest.mark.slow_emulated
SIGNALLED = 128


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose cgroup root is a cgroup of our own."""
    if os.geteuid() != 0:
        missing("not root, so no cgroup can be made: run the tests with sudo")
    try:
        root = find_cgroup_root(None)
    except UnsupportedError as error:
        missing(str(error))
    tree = Path(tempfile.mkdtemp(prefix="podpace-run-test-", dir=root))
    (tmp_path / "proc").symlink_to("/proc")
    try:
        with enforcer(tmp_path, "--cgroup-root", str(tree)) as running:
            running.tree = tree
            yield running
    finally:
        for folder in (*tree.glob("podpace/*/"), *tree.glob("podpace/"), tree):
            folder.rmdir()


def _start(daemon: Daemon, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PODPACE, "run", "--egress", "5M", "--", *command],
        env={**os.environ, "PODPACE_SOCKET": str(daemon.socket)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("who", ["command", "child"])
def test_a_process_that_leaves_the_cgroup_is_told(daemon, who):
    """What systemd-run --scope and pam_systemd do: the limit does not go with it."""
    elsewhere = daemon.tree / "podpace/elsewhere"
    script = f"mkdir {elsewhere}; echo $$ > {elsewhere}/cgroup.procs; exec cat"
    if who == "child":
        script = f"sh -c '{script}'; exit 0"
    with subprocess.Popen(
        [PODPACE, "run", "--egress", "5M", "--", "sh", "-c", script],
        env={**os.environ, "PODPACE_SOCKET": str(daemon.socket)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        told = run.stderr.readline()
        run.stdin.close()
        run.wait(HANGS_SECONDS)

    assert "(cat) has left the limited cgroup for " in told or "(sh) has left" in told
    assert told.rstrip().endswith("podpace/elsewhere")
    assert run.returncode == 0


def test_the_command_starts_inside_a_cgroup_that_is_already_limited(daemon):
    """Attached first, moved before exec, gone afterwards."""
    done = daemon.client("run", "--egress", "5M", "--", "grep", "^0::", "/proc/self/cgroup")

    attached = daemon.wait_for("attached")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().endswith(attached["target"].removeprefix("cgroup:"))
    daemon.wait_for("detached")
    assert not (daemon.tree / "podpace").exists()


@pytest.mark.parametrize("code", [0, 1, 3, 126, 255])
def test_the_command_s_exit_code_is_ours(daemon, code):
    """Whatever it is."""
    assert daemon.client("run", "--egress", "5M", "sh", "-c", f"exit {code}").returncode == code


def test_a_command_ended_by_a_signal_gives_128_and_the_signal(daemon):
    """As a shell does."""
    done = daemon.client("run", "--egress", "5M", "sh", "-c", "kill -KILL $$")

    assert done.returncode == SIGNALLED + signal.SIGKILL
    assert not (daemon.tree / "podpace").exists()


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_a_signal_reaches_the_command(daemon, name):
    """Once, and the command decides what it means."""
    process = _start(
        daemon,
        "sh",
        "-c",
        f"trap 'echo got; exit 7' {name}; echo ready; while :; do sleep .1; done",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    output, error = process.communicate(timeout=HANGS_SECONDS)

    assert (process.returncode, output, error) == (7, "got\n", "")
    assert not (daemon.tree / "podpace").exists()


def test_the_command_has_the_signal_mask_we_were_given(daemon):
    """Our own holding back of signals is not inherited."""
    done = daemon.client("run", "--egress", "5M", "grep", "SigBlk", "/proc/self/status")

    assert int(done.stdout.split()[1], 16) == 0


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        ("no-such-command", 127, 'podpace: "no-such-command" was not found; give the path of '),
        ("/etc/passwd", 126, 'podpace: "/etc/passwd" may not be executed; see chmod +x'),
    ],
)
def test_a_command_that_cannot_start(daemon, command, code, line):
    """A shell's exit codes, one line, no cgroup left."""
    done = daemon.client("run", "--egress", "5M", "--", command)

    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not (daemon.tree / "podpace").exists()


def test_what_outlives_the_command_keeps_its_limit(daemon):
    """A line says where it is and how to end the limit."""
    done = daemon.client("run", "--egress", "5M", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    survivor = int(done.stdout)
    (cgroup,) = (daemon.tree / "podpace").glob("run-*")
    try:
        assert done.returncode == 0
        assert "1 of the command's processes still run and stay limited" in done.stderr
        assert (cgroup / "cgroup.procs").read_text().split() == [str(survivor)]
        assert cgroup.name in daemon.client("list").stdout
    finally:
        pidfd = os.pidfd_open(survivor)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        events = cgroup / "cgroup.events"
        while "populated 1" in events.read_text():
            pass
        cgroup.rmdir()
        cgroup.parent.rmdir()


def test_a_daemon_that_dies_meanwhile_does_not_change_the_exit_code(daemon):
    """The cgroup still goes, and its programs with it."""
    process = subprocess.Popen(
        [PODPACE, "run", "--egress", "5M", "sh", "-c", "echo ready; read -r line; exit 5"],
        env={**os.environ, "PODPACE_SOCKET": str(daemon.socket)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    daemon.stop(signal.SIGKILL)

    process.communicate("go\n", timeout=HANGS_SECONDS)

    assert process.returncode == 5
    assert not (daemon.tree / "podpace").exists()
