"""Reads from the API server as the user; what goes wrong is said as the command says things."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import kube.errors
from client.errors import ClientError, UnreachableError, UsageError
from client.kube.flags import Flags
from kube.api import KubeApi
from kube.credentials import Credentials, in_pod
from kube.errors import ApiError, NoClusterError
from kube.kubeconfig import Changes, default_files, read
from kube.ports import Json

if TYPE_CHECKING:
    from kube.listwatch import Sink

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 30.0
_FORBIDDEN: Final = 403
_UNAUTHORIZED: Final = 401
_MOST_FAILURES: Final = 5
T = TypeVar("T")
_flags = Flags(Changes())


class NotFoundError(ClientError):
    """There is no such object."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Some objects of a kind."""

    path: str
    query: Mapping[str, str]
    namespace: str | None = None
    """The one that they are in; None: they may be in any."""


class Cluster:
    """One cluster, with one user's credentials. Methods raise ``ClientError``."""

    def __init__(self, credentials: Credentials, timeout_seconds: float | None = None) -> None:
        self._api = KubeApi(
            lambda: credentials,
            connect_seconds=min(_CONNECT_SECONDS, timeout_seconds or _CONNECT_SECONDS),
            read_seconds=timeout_seconds or _READ_SECONDS,
        )
        self._server = credentials.server
        self.namespace = credentials.namespace
        """The context's."""

    def get(self, path: str) -> Json:
        """One object."""
        with self._told(path):
            return self._api.get(path)

    def list(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """All items, page by page."""
        with self._told(path):
            return self._api.list(path, query)

    def merge(self, path: str, body: Json, *, dry_run: bool = False) -> Json:
        """A merge patch; the object as it is then."""
        with self._told(path):
            return self._api.merge(f"{path}?dryRun=All" if dry_run else path, body)

    def text(self, path: str) -> str:
        """What is not JSON: a pod's answer, through the proxy."""
        with self._told(path):
            return self._api.text(path)

    def follow(self, wanted: Wanted, decode: Callable[[bytes], T], sink: "Sink[T]") -> None:
        """Tells ``sink`` what there is and each change; returns never.

        Raises:
            ClientError: refused, or not reached five times in a row.
        """
        from kube.listwatch import ListWatch

        watch = ListWatch(self._api, wanted.path, wanted.query, decode, sink)
        failures = 0
        while True:
            try:
                watch.step()
                failures = 0
            except ApiError as error:
                failures += 1
                if error.status in (_UNAUTHORIZED, _FORBIDDEN) or failures == _MOST_FAILURES:
                    raise self._translated(wanted.path, error) from error
                time.sleep(failures)

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except kube.errors.NotFoundError as error:
            raise NotFoundError(error.reason) from error
        except ApiError as error:
            raise self._translated(path, error) from error

    def _translated(self, path: str, error: ApiError) -> ClientError:
        if error.status == 0:
            return UnreachableError(
                f"the API server at {self._server} does not answer ({error.reason}); "
                "see whether kubectl get pods works"
            )
        if error.status == _UNAUTHORIZED:
            return ClientError("the API server does not know you; see: kubectl auth whoami")
        if error.status == _FORBIDDEN:
            return ClientError(
                f"{error.reason}; docs/user/kubectl.md lists the rights that are needed"
            )
        where = path.partition("?")[0]
        return ClientError(f"{where}: HTTP status {error.status}: {error.reason}")


def use(flags: Flags) -> None:
    """What the command line said of the connection, for every :func:`connect` of this process."""
    global _flags  # noqa: PLW0603 - one command line per process
    _flags = flags


def connect(kubeconfig: Path | None, context: str | None) -> Cluster:
    """As kubectl finds its cluster: the file, ``KUBECONFIG``, ``~/.kube/config``, or a pod's own.

    Raises:
        UsageError: nothing of that is usable.
    """
    try:
        files = default_files() if kubeconfig is None else (kubeconfig,)
        changes = _flags.changes
        found = read(files, context, may_be_missing=kubeconfig is None, changes=changes)
        return Cluster(found, _flags.timeout_seconds)
    except NoClusterError as error:
        if kubeconfig is None and context is None and _flags.changes == Changes():
            with contextlib.suppress(NoClusterError):
                return Cluster(in_pod())
        raise UsageError(f"no cluster: {error}; give --kubeconfig or --context") from error
