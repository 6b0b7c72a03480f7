"""The control socket as a file: made with mode 0600, taken over only when nobody answers."""

import errno
import os
import socket
import stat
from pathlib import Path

from enforcer.errors import EnforcerError


class SocketError(EnforcerError):
    """The socket or address cannot be listened on. The message says what to do."""


def is_answered(path: Path) -> bool:
    """Whether a process listens on the Unix socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1)
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its queue is full: somebody is there
        except OSError:
            return False
    return True


def refuse_second_daemon(path: Path) -> None:
    """Raises ``SocketError`` when another daemon answers at ``path``."""
    if is_answered(path):
        raise SocketError(
            f"another daemon answers on {path}; stop that one first, or give another --socket"
        )


def listen_unix(path: Path) -> socket.socket:
    """A listening socket that only its owner may use. Raises ``SocketError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise SocketError(f"{path} is there and is no socket; give another --socket")
        refuse_second_daemon(path)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(128)
    except OSError as error:
        hint = "use a shorter path" if "too long" in str(error) else "see --socket"
        raise SocketError(f"cannot listen on {path}: {error.strerror or error}; {hint}") from error
    return listener


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket, v4 or v6. Raises ``SocketError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        hint = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise SocketError(
            f"cannot listen on {host} port {port}: {hint}; give another --metrics-address"
        ) from error


def remove_own(path: Path, inode: int) -> None:
    """Remove the socket file, unless a newer daemon has put its own there."""
    try:
        if path.stat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        pass
