"""Processes in a chosen network namespace and cgroup, and signals that still let us clean up."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

EMULATED = "PODPACE_VM" in os.environ
"""Whether this is a machine that tests/vm has booted."""
PATIENCE = 20 if EMULATED else 1
"""How much longer things may take. In a machine whose time is counted, a wait for the disk lasts
until the kernel's next timer, which may be a second away (docs/kernels.md)."""
HANGS_SECONDS = 180.0 * PATIENCE
"""A command that takes longer hangs; on an emulated processor some take a minute."""
_ENTER_CGROUP = 'echo 0 >"$1" && shift && exec "$@"'
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RigError(Exception):
    """The rig could not be set up or an instrument failed. The message says what to do."""


def sh(*argv: str | Path, stdin: str | None = None, timeout_seconds: float = HANGS_SECONDS) -> str:
    """Runs a command to its end and returns what it printed; raises RigError when it fails."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    except FileNotFoundError as e:
        raise RigError(f"{argv[0]} is not installed: run make setup as root") from e
    except subprocess.TimeoutExpired as e:
        raise RigError(f"no end after {timeout_seconds:.0f} s: {' '.join(map(str, argv))}") from e
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise RigError(f"{' '.join(map(str, argv))}: exit code {done.returncode}: {said}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Place:
    """A network namespace and, with a cgroup, where its processes are accounted."""

    namespace: str
    cgroup: Path | None = None

    def command(self, *argv: str | Path) -> list[str]:
        """The command line that runs ``argv`` here."""
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *map(str, argv)]
        if self.cgroup is None:
            return inside
        return ["/bin/sh", "-c", _ENTER_CGROUP, "sh", str(self.cgroup / "cgroup.procs"), *inside]

    def run(self, *argv: str | Path, timeout_seconds: float = HANGS_SECONDS) -> str:
        """Runs ``argv`` here to its end and returns what it printed; raises RigError."""
        return sh(*self.command(*argv), timeout_seconds=timeout_seconds)


@contextmanager
def running(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is dead and reaped when the block ends.

    It gets a session of its own: a Ctrl-C at the terminal reaches us alone, and we end it in order.
    """
    process = subprocess.Popen(argv, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        with shielded():
            process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
            process.wait()


@contextmanager
def shielded() -> Iterator[None]:
    """Signals that would end us wait until the block is through. For cleaning up."""
    # The mask is for the commands we start, which inherit it: a Ctrl-C at the terminal reaches them
    # too. It does not keep a signal away that another thread takes, so the handlers wait as well.
    mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, _END_SIGNALS)
    handlers_before, waiting = {}, []
    if threading.current_thread() is threading.main_thread():
        for number in _END_SIGNALS:
            handlers_before[number] = signal.signal(number, lambda n, _: waiting.append(n))
    try:
        yield
    finally:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask_before)
        if waiting:
            signal.raise_signal(waiting[0])


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def terminating() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that everything is cleaned up.

    For the main thread; elsewhere it does nothing, since Python's signals arrive there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in _END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
