"""The control socket as a file: made with mode 0600, taken over only when nobody answers."""

import errno
import os
import resource
import socket
import stat
from pathlib import Path
from typing import Final

from enforcer.errors import EnforcerError

_DESCRIPTORS: Final = 65536
"""Some dozens for the daemon itself, two for a watch, and for each connection one: those are
bounded by the servers' places, so that what a limit needs is always left."""


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


def raise_descriptor_limit() -> None:
    """Take what the machine's administrator allows; systemd starts services with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def notify_systemd() -> None:
    """Tell systemd (Type=notify) that targets are in force and requests are served."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(b"READY=1", address.replace("@", "\0", 1))
