"""`kubectl podpace` runs where only the commands are installed, and where there is no Linux."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
_DAEMONS = ["fastapi", "uvicorn", "h11", "structlog", "cryptography", "inotify_simple", "bcc"]
_HEAVY = ["pydantic", "kubernetes", "httpx", "prometheus_client", "matplotlib", "plotext"]
"""What some commands need, or a library of ours would like to have: a tenth of a second each."""
_LINUX = ["fcntl", "termios", "pwd", "grp", "resource"]
_WITHOUT = """
import signal, socket, sys
for name in {blocked!r}:
    sys.modules[name] = None
for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
if {windows!r}:
    del socket.AF_UNIX
sys.argv = ["kubectl-podpace", *{arguments!r}]
from client.kube.__main__ import main
main()
"""

_NOBODY = """
current-context: a
contexts: [{name: a, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
"""


def run(
    *arguments: str, blocked: list[str], windows: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command in a Python that lacks these modules."""
    code = _WITHOUT.format(blocked=blocked, windows=windows, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", [("--help",), ("list", "--help"), ("--version",)])
def test_the_command_needs_nothing_of_the_daemons(command: tuple[str, ...]) -> None:
    """Nor any module that other systems lack."""
    done = run(*command, blocked=[*_DAEMONS, *_LINUX], windows=True)

    assert done.returncode == 0, done.stderr


def test_without_the_daemons_it_asks_a_cluster(tmp_path: Path) -> None:
    """As far as that there is nobody."""
    config = tmp_path / "config"
    config.write_text(_NOBODY)

    done = run("list", f"--kubeconfig={config}", blocked=_DAEMONS)

    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("kubectl podpace: the API server at http://127.0.0.1:1")


@pytest.mark.parametrize("command", [("list",), ("show", "web"), ("explain", "web")])
def test_a_command_that_only_reads_pods_loads_nothing_that_takes_long(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """As far as its first request."""
    config = tmp_path / "config"
    config.write_text(_NOBODY)

    done = run(*command, f"--kubeconfig={config}", blocked=_HEAVY)

    assert done.returncode == 3, done.stderr


def test_the_daemons_libraries_are_an_extra() -> None:
    """What is blocked above is what the extra brings, but for Debian's bcc."""

    def names(requirements: list[str]) -> set[str]:
        return {r.split(">")[0].strip() for r in requirements}

    daemons = names(PROJECT["optional-dependencies"]["daemons"])

    assert daemons == set(_DAEMONS) - {"bcc"}
    assert not daemons & names(PROJECT["dependencies"])
