"""The ``serve`` command: what ends its start, and its orderly end."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from certs.authority import issue_leaf, make_authority, utc_now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pair and an empty folder of policies."""
    leaf = issue_leaf(make_authority(utc_now()), ["localhost"], utc_now())
    (tmp_path / "tls.crt").write_bytes(leaf.certificate)
    (tmp_path / "tls.key").write_bytes(leaf.key)
    (tmp_path / "policies").mkdir()
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    """Serving from the folder."""
    return [
        *(sys.executable, "-m", "webhook", "serve", "--host=127.0.0.1"),
        f"--policy-dir={folder / 'policies'}",
        *(f"--tls-cert={folder / 'tls.crt'}", f"--tls-key={folder / 'tls.key'}"),
        *more,
    ]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--tls-cert=/no/such"], 1, "/no/such: No such file"),
        (["--policy-dir=/no/such"], 1, "is not a folder"),
        (["--tls-minimum=1.1"], 2, "write 1.2 or 1.3"),
        (["--log-level=loud"], 2, "write debug, info, warning or error"),
    ],
)
def test_what_cannot_be_served_ends_the_start_with_what_to_do(
    folder: Path, options: list[str], code: int, words: str
) -> None:
    """No traceback."""
    done = subprocess.run(command(folder, *options), capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_taken_port_is_named(folder: Path) -> None:
    """Both would be of no use."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(folder, f"--port={port}"), capture_output=True, text=True, check=False
        )

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]])
def test_a_signal_drains_and_a_second_one_hurries(
    folder: Path, signals: list[signal.Signals]
) -> None:
    """The exit is orderly in both cases."""
    drain = 0.1 if len(signals) == 1 else 600
    options = ["--port=0", "--health-port=0", f"--drain-seconds={drain}"]
    with subprocess.Popen(command(folder, *options), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        events = []
        waiting = {"serving": signals[0], "draining": signals[-1] if len(signals) > 1 else None}
        for line in process.stdout:
            event = json.loads(line)["event"]
            events.append(event)
            if (number := waiting.get(event)) is not None:
                process.send_signal(number)

    assert process.returncode == 0
    assert events[-3:] == ["serving", "draining", "stopped"]


@pytest.mark.parametrize("command", ["serve", "uninstall", "selftest --image=x"])
def test_without_a_cluster_each_command_says_so_in_one_line(command: str) -> None:
    """On standard error, with what to do; exit code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "webhook", *command.split()],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("podpace-webhook: no Kubernetes API: ")
    assert "give --kubeconfig" in line
