"""One connection of a program in the pod that does as it is told, and says what is set on it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen
from typing import Final

from bench.rig import Rig, running
from bench.rig.topology import PEER_ADDRESS

SO_MAX_PACING_RATE: Final = 47
NOT_PACED: Final = 2**32 - 1
_PYTHON: Final = (sys.executable, "-I", "-S", "-c")
_PEER: Final = """
import socket, sys
address, port, sends = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "send"
with socket.create_server((address, port)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    while connection.send(bytes(65536)) if sends else connection.recv(65536):
        pass
"""
_PROGRAM: Final = f"""
import ctypes, os, socket, sys, threading
s = socket.socket()
if sys.argv[3] != "0":
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, int(sys.argv[3]))
s.connect((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)

def forever(work):
    try:
        while work():
            pass
    except OSError:
        pass

for line in sys.stdin:
    what, _, value = line.strip().partition(" ")
    answer = 0
    if what == "pace":
        answer = s.getsockopt(socket.SOL_SOCKET, {SO_MAX_PACING_RATE}) & 0xffffffff
    elif what == "window":
        answer = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP)
    elif what == "ask":
        s.setsockopt(socket.SOL_SOCKET, {SO_MAX_PACING_RATE}, int(value))
    elif what == "send":
        s.sendall(bytes(int(value)))
    elif what == "flood":
        threading.Thread(target=forever, args=(lambda: s.send(bytes(65536)),), daemon=True).start()
    elif what == "read":
        threading.Thread(target=forever, args=(lambda: s.recv(65536),), daemon=True).start()
    elif what == "move":
        with open(value + "/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
    elif what == "enter":
        ctypes.CDLL(None).setns(os.open(value, os.O_RDONLY), 0x40000000)
    print(answer, flush=True)
"""


@dataclass(frozen=True)
class Connection:
    """Of a program in the pod to the peer."""

    program: Popen[str]

    def ask(self, what: str) -> int:
        """One command; what it answers."""
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write(f"{what}\n")
        self.program.stdin.flush()
        return int(self.program.stdout.readline())

    @property
    def pace(self) -> int:
        """SO_MAX_PACING_RATE."""
        return self.ask("pace")

    @property
    def window(self) -> int:
        """TCP_WINDOW_CLAMP."""
        return self.ask("window")


@contextmanager
def connection(
    r: Rig,
    port: int = 7788,
    *,
    cgroup: Path | None = None,
    peer_sends: bool = False,
    window_bytes: int = 0,
) -> Iterator[Connection]:
    """From the pod, or from a cgroup below it, for as long as the block runs."""
    with ExitStack() as stack:
        mode = "send" if peer_sends else "sink"
        peer = r.peer.command(*_PYTHON, _PEER, PEER_ADDRESS[4], str(port), mode)
        server = stack.enter_context(running(peer, stdout=-1))
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        place = r.pod if cgroup is None else replace(r.pod, cgroup=cgroup)
        argv = place.command(*_PYTHON, _PROGRAM, PEER_ADDRESS[4], str(port), str(window_bytes))
        program = stack.enter_context(running(argv, stdin=-1, stdout=-1))
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield Connection(program)


def eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it holds within that time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
