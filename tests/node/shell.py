"""``python -m tests.node.shell ADDRESS``: standard input as a bash script on a node."""

import socket
import sys
import time
from dataclasses import dataclass
from typing import Final

_PORT: Final = 9000
_BY_HAND_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Done:
    """A finished script."""

    code: int
    output: str
    """Both streams."""


def run_script(address: str, script: str, seconds: float) -> Done:
    """Run it outside every pod. Raises OSError when the machine does not answer in time."""
    with socket.create_connection((address, _PORT), timeout=seconds) as connection:
        connection.sendall(script.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        until = time.monotonic() + seconds
        while received := connection.recv(65536):
            answer += received
            connection.settimeout(max(0.1, until - time.monotonic()))
    output, _, code = answer.decode(errors="replace").rstrip("\n").rpartition("\n")
    return Done(int(code or 255), output)


if __name__ == "__main__":
    done = run_script(sys.argv[1], sys.stdin.read(), _BY_HAND_SECONDS)
    print(done.output)
    sys.exit(done.code)
