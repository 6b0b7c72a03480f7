"""``podpace run``: a command in a limited cgroup of its own."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from client.api import Enforcer
from client.errors import ClientError
from client.leavers import leavers
from client.output import print_problems
from contract.api import TargetRequest

_FOLDER: Final = "podpace"
_FORWARDED: Final = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_SIGNALLED: Final = 128
_STRAGGLER_SECONDS: Final = 1.0
_FIRST_LOOK_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 1.0
"""How often it is looked for processes that have left the cgroup."""


def run(enforcer: Enforcer, request: TargetRequest, command: Sequence[str]) -> int:
    """Run ``command`` limited; its exit code, or 128 + its signal, as a shell gives it.

    Failure contract:
    1. The cgroup is made and limited first. When that fails the command never starts, and the
       cgroup is removed.
    2. Starting the command is the point of no return. Whatever ends it, limit and cgroup go.
    3. Children that outlive the command keep their limit; a line says where they are.
    """
    with _signals_held() as mask:
        top = Path(enforcer.health().cgroup_root) / _FOLDER
        cgroup = _make_cgroup(top)
        target = f"cgroup:/{_FOLDER}/{cgroup.name}"
        try:
            enforcer.attach(target, request)
            pending = _FORWARDED & signal.sigpending()
            if pending:
                return int(_SIGNALLED + min(pending))
            return _supervise(command, cgroup, mask)
        finally:
            _remove(enforcer, target, cgroup)


@contextlib.contextmanager
def _signals_held() -> Iterator[set[signal.Signals]]:
    """Signals wait until we take them; the body gets the mask that the command should have."""
    held = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    mask = {signal.Signals(number) for number in before}
    try:
        yield mask
    finally:
        while signal.sigtimedwait(held, 0) is not None:
            pass  # meant for the command, which has ended
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_cgroup(top: Path) -> Path:
    try:
        top.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="run-", dir=top))
    except OSError as error:
        raise ClientError(
            f"cannot make a cgroup below {top}: {error.strerror}; run it as root, on the machine "
            "that the daemon runs on"
        ) from error


def _supervise(command: Sequence[str], cgroup: Path, mask: set[signal.Signals]) -> int:
    def enter() -> None:
        (cgroup / "cgroup.procs").write_text("0")
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        # enter() runs between fork and exec: not one packet of the command leaves unlimited.
        process = subprocess.Popen(command, preexec_fn=enter)  # noqa: PLW1509 - no threads here
    except FileNotFoundError:
        print_problems([f'"{command[0]}" was not found; give the path of a command'])
        return _NOT_FOUND
    except PermissionError:
        print_problems([f'"{command[0]}" may not be executed; see chmod +x'])
        return _NOT_EXECUTABLE
    except OSError as error:
        print_problems([f'"{command[0]}" cannot be started: {error.strerror}; see file(1)'])
        return _NOT_EXECUTABLE
    except subprocess.SubprocessError as error:
        raise ClientError(
            f"the command could not enter {cgroup}; see whether cgroup.procs there is writable"
        ) from error
    told: set[int] = set()
    pause = _FIRST_LOOK_SECONDS
    while process.poll() is None:
        received = signal.sigtimedwait({*_FORWARDED, signal.SIGCHLD}, pause)
        if received is None:
            pause = min(2 * pause, _LOOK_SECONDS)
            _tell_leavers(process.pid, cgroup, told)
            continue
        # What the kernel sends (si_code > 0: Ctrl-C in the terminal) goes to the whole process
        # group, so that the command has it already.
        if received.si_signo != signal.SIGCHLD and received.si_code <= 0:
            process.send_signal(received.si_signo)
    code = process.returncode
    return code if code >= 0 else _SIGNALLED - code


def _tell_leavers(pid: int, cgroup: Path, told: set[int]) -> None:
    """One line for each process that is not limited any more."""
    for leaver in leavers(pid, cgroup):
        if leaver.pid not in told:
            told.add(leaver.pid)
            print_problems(
                [
                    f"process {leaver.pid} ({leaver.name}) has left the limited cgroup for "
                    f"{leaver.cgroup} and is not limited there; limit that one with: podpace "
                    f"attach cgroup:{leaver.cgroup}"
                ]
            )


def _remove(enforcer: Enforcer, target: str, cgroup: Path) -> None:
    deadline = time.monotonic() + _STRAGGLER_SECONDS
    while (processes := _processes(cgroup)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if processes:
        print_problems(
            [
                f"{len(processes)} of the command's processes still run and stay limited; when "
                f"they have ended: podpace detach {target}; rmdir {cgroup}"
            ]
        )
        return
    # Refused before it was attached, or the daemon is gone: then rmdir drops the programs.
    with contextlib.suppress(ClientError):
        enforcer.detach(target)
    with contextlib.suppress(OSError):
        cgroup.rmdir()
        cgroup.parent.rmdir()  # fails while another run uses it


def _processes(cgroup: Path) -> list[str]:
    found: list[str] = []
    for folder, _, _ in os.walk(cgroup):
        with contextlib.suppress(OSError):
            found += (Path(folder) / "cgroup.procs").read_text().split()
    return found
