"""Reads from the API server as the user; what goes wrong is said as the command says things."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import kube.errors
from client.errors import ClientError, UnreachableError, UsageError
from kube.api import KubeApi
from kube.credentials import Credentials, in_pod
from kube.errors import ApiError, NoClusterError
from kube.kubeconfig import default_files, read
from kube.ports import Json

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 30.0
_FORBIDDEN: Final = 403
_UNAUTHORIZED: Final = 401


class NotFoundError(ClientError):
    """There is no such object."""


class Cluster:
    """One cluster, with one user's credentials. Methods raise ``ClientError``."""

    def __init__(self, credentials: Credentials) -> None:
        self._api = KubeApi(
            lambda: credentials, connect_seconds=_CONNECT_SECONDS, read_seconds=_READ_SECONDS
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

    def text(self, path: str) -> str:
        """What is not JSON: a pod's answer, through the proxy."""
        with self._told(path):
            return self._api.text(path)

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


def connect(kubeconfig: Path | None, context: str | None) -> Cluster:
    """As kubectl finds its cluster: the file, ``KUBECONFIG``, ``~/.kube/config``, or a pod's own.

    Raises:
        UsageError: nothing of that is usable.
    """
    try:
        if kubeconfig is not None:
            return Cluster(read((kubeconfig,), context))
        return Cluster(read(default_files(), context, may_be_missing=True))
    except NoClusterError as error:
        if kubeconfig is None and context is None:
            with contextlib.suppress(NoClusterError):
                return Cluster(in_pod())
        raise UsageError(f"no cluster: {error}; give --kubeconfig or --context") from error
