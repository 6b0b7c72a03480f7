"""The ``podpace`` command against a real daemon process: lines and exit codes."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.needs import missing
from tests.processes import AS_NOBODY, PODPACE, ROOT, client, enforcer, fake_machine

REFUSED, USAGE, UNREACHABLE = 1, 2, 3


def _one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line on standard error; nothing was printed as a result."""
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("podpace: ").rstrip("\n")


def test_attach_says_what_is_in_force(daemon):
    """One line with both directions."""
    done = daemon.client("attach", "/pod", "--ingress", "10M", "--egress", "2.5M")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("cgroup:/pod: ingress 10 Mbit/s (policed), egress 2.5 Mbit/s (paced)\n")


def test_every_option_reaches_the_daemon(daemon):
    """Bursts, observe mode, exempt networks of both families."""
    done = daemon.client(
        "attach", "/pod", "--ingress", "10M", "--egress", "5M", "--ingress-burst", "80k",
        "--egress-burst", "90k", "--observe", "--exempt", "10.0.0.0/8", "--exempt", "fd00::/8",
        "-o", "json",
    )  # fmt: skip

    status = json.loads(done.stdout)
    assert status["ingress"]["burst_bits"] == 80_000
    assert status["egress"]["burst_bits"] == 90_000
    assert status["mode"] == "observe"
    assert status["exempt_cidrs"] == ["10.0.0.0/8", "fd00::/8"]


def test_list_show_and_detach(daemon):
    """A target's life."""
    assert daemon.client("list").stdout == (
        "no target is limited; limit one with: podpace attach TARGET --ingress 10M\n"
    )
    daemon.client("attach", "/pod", "--egress", "5M")

    listed = daemon.client("list").stdout.splitlines()
    assert listed[0].split() == ["TARGET", "INGRESS", "EGRESS", "MODE", "CGROUP"]
    assert listed[1].split()[:3] == ["cgroup:/pod", "not", "limited"]
    shown = daemon.client("show", "/pod").stdout
    assert "earlier sockets   iterator" in shown
    assert "2.8 s" in shown

    done = daemon.client("detach", "/pod")
    assert (done.returncode, done.stdout) == (0, "/pod: not limited any more\n")
    assert _one_line(daemon.client("detach", "/pod"), REFUSED) == (
        'target: "/pod" has no limit; list those that have with: podpace list'
    )


def test_json_and_yaml_say_the_same(daemon):
    """For every command that prints data."""
    daemon.client("attach", "/pod", "--egress", "5M")

    for command in (["list"], ["show", "/pod"], ["attach", "/pod", "--egress", "5M"]):
        as_json = json.loads(daemon.client(*command, "-o", "json").stdout)
        assert yaml.safe_load(daemon.client(*command, "-o", "yaml").stdout) == as_json


def test_a_relative_path_is_meant_from_here(daemon):
    """As every other command takes paths."""
    done = daemon.client("attach", "pod", "--egress", "5M", cwd=daemon.tree)
    assert done.stdout.startswith("cgroup:/pod: ")

    done = daemon.client("show", ".", cwd=daemon.tree / "pod")
    assert "cgroup:/pod" in done.stdout


def test_top_once_prints_one_table(daemon):
    """Both directions of a target; scripts take -o json."""
    daemon.client("attach", "/pod", "--ingress", "10M", "--egress", "5M")

    lines = daemon.client("top", "--once", "--interval", "0.1").stdout.splitlines()
    rows = json.loads(daemon.client("top", "--interval", "0.1", "-o", "json").stdout)

    assert [line.split()[1] for line in lines[1:]] == ["ingress", "egress"]
    assert [(r["direction"], r["limit_bits_per_second"]) for r in rows] == [
        ("ingress", 10_000_000),
        ("egress", 5_000_000),
    ]


def test_top_ends_well_on_ctrl_c(daemon):
    """Exit code 0, no traceback."""
    process = subprocess.Popen(
        [PODPACE, "top", "--interval", "0.1"],
        env={**os.environ, "PODPACE_SOCKET": str(daemon.socket), "TERM": "dumb"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)

    assert (process.returncode, error) == (0, b"")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10Mbps", "has a unit in it; the value is always bits per second"),
        ("-1", "is negative"),
        ("0", "is below the smallest limit, 1k (1 kbit/s)"),
        ("5K", "ends in K, which is not a unit (kilo is a small k)"),
        ("1_000k", "has a separator between its digits"),
        (" 5M", "has a space around it"),
    ],
)
@pytest.mark.parametrize("command", [["attach", "/pod"], ["run"]])
def test_a_bad_quantity_is_found_before_the_daemon_is_asked(tmp_path, command, text, reason):
    """One line that says what to write, exit code 2, no daemon needed."""
    done = client(
        *command, "--egress", text, *(["true"] if command == ["run"] else []),
        socket=tmp_path / "none",
    )  # fmt: skip

    line = _one_line(done, USAGE)
    assert line.startswith(f'--egress: "{text}" {reason}; write ')


def test_every_mistake_has_its_line(tmp_path):
    """One round is enough to put all of them right."""
    done = client(
        "attach", "/pod", "--ingress", "5K", "--egress-burst", "1M", "--exempt", "x",
        socket=tmp_path / "none",
    )  # fmt: skip

    assert done.returncode == USAGE
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == [
        "--ingress",
        "--egress-burst",
        "--exempt",
    ]


def test_a_limit_must_be_given(tmp_path):
    """Attaching nothing would silently lift what is there."""
    line = _one_line(client("attach", "/pod", socket=tmp_path / "none"), USAGE)

    assert line == "no limit was given; give --ingress 10M, --egress 10M or both"


@pytest.mark.parametrize(
    "arguments",
    [[], ["attach"], ["attach", "/pod", "--speed", "1"], ["run", "--egress", "1M"], ["fly"],
     ["list", "-o", "xml"], ["top", "--interval", "0"]],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_code_2(tmp_path, arguments):
    """With the usage."""
    done = client(*arguments, socket=tmp_path / "none")

    assert done.returncode == USAGE
    assert "Usage: podpace" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/nothing", "does not exist, neither as it is nor below {tree}; look for it with: "),
        ("{work}", "is not a cgroup; give a folder below {tree}, or pid:N"),
        ("/", "is the root cgroup, which holds everything on this machine; choose "),
        ("{work}/v1", "is a cgroup v1 path, and programs attach to cgroup v2 only; give "),
        ("pid:4194305", "is not a running process; take the id of one that runs, from ps"),
        ("container:beef", "is no container in a cgroup below {tree}; list the running ones "),
    ],
)
def test_a_target_that_cannot_be_limited(daemon, target, reason):
    """One line that says what to do, exit code 1, nothing half-attached."""
    places = {"work": daemon.tree.parent, "tree": daemon.tree}

    done = daemon.client("attach", target.format(**places), "--egress", "5M")

    line = _one_line(done, REFUSED)
    assert line.startswith(f'target: "{target.format(**places)}" {reason.format(**places)}')
    assert json.loads(daemon.client("list", "-o", "json").stdout) == {"targets": []}
    assert list((daemon.tree.parent / "state").iterdir()) == []


def test_without_a_daemon_the_line_says_how_to_start_one(tmp_path):
    """No socket, and one that nobody answers on."""
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))

    for path in (tmp_path / "none", dead):
        assert _one_line(client("list", socket=path), UNREACHABLE) == (
            f"no daemon answers on {path}; start it with: sudo podpace-enforcer, or: "
            "sudo systemctl start podpace-enforcer"
        )


def test_a_socket_that_is_not_ours_is_told(tmp_path):
    """Something else listens there and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "x"))
        listener.listen()
        process = subprocess.Popen(
            [PODPACE, "list", "--socket", str(tmp_path / "x")],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        listener.accept()[0].close()
        _, error = process.communicate(timeout=10)

    assert process.returncode == UNREACHABLE
    assert error.startswith(f"podpace: the daemon on {tmp_path}/x hung up (")
    assert error.count("\n") == 1


def test_who_may_not_use_the_socket_is_told_to_use_sudo():
    """Exit code 3."""
    if os.geteuid() != 0:
        missing("not root, so nobody else can be played: run the tests with sudo")
    with tempfile.TemporaryDirectory() as work:
        Path(work).chmod(0o755)
        fake_machine(Path(work))
        with enforcer(Path(work)) as daemon:
            done = subprocess.run(
                [*AS_NOBODY, PODPACE, "list", "--socket", str(daemon.socket)],
                cwd="/", capture_output=True, text=True, check=False,
            )  # fmt: skip

    assert _one_line(done, UNREACHABLE) == (
        f"may not use {daemon.socket}: only root may; run it again with sudo"
    )


def test_a_command_that_may_not_be_limited_never_starts(daemon):
    """The daemon refuses: exit code 1, no process, no cgroup."""
    witness = daemon.tree.parent / "started"
    daemon.process.send_signal(signal.SIGUSR1)
    while daemon.client("attach", "/pod", "--egress", "5M").returncode == 0:
        daemon.client("detach", "/pod")

    done = daemon.client("run", "--egress", "5M", "--", "touch", str(witness))

    assert done.returncode == REFUSED
    assert "the kernel said EINVAL" in done.stderr
    assert not witness.exists()
    assert not (daemon.tree / "podpace").exists()


def test_the_version_is_printed(tmp_path):
    """Without a daemon."""
    done = client("--version", socket=tmp_path / "none")

    assert done.returncode == 0
    assert done.stdout.count(".") == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_completion(tmp_path, monkeypatch, shell):
    """A script that completes podpace."""
    # Else it is for the shell that started the tests, where one did.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = client("--show-completion", shell, socket=tmp_path / "none")

    assert done.returncode == 0
    assert "podpace" in done.stdout
