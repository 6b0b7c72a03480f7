"""Keeps a node's limited pods known."""

from collections.abc import Callable, Iterable

from contract.names import LABEL_LIMITED
from enforcer.pods.news import News, PodChanged, PodGone, PodsListed
from enforcer.pods.pod import Pod, read_pod
from enforcer.ports import Log
from kube.listwatch import ListWatch, Observer
from kube.ports import Api

PATH = "/api/v1/pods"


def pods_query(node_name: str) -> dict[str, str]:
    """Selects what this node's enforcer acts on; the API server's cache is indexed by node."""
    return {
        "fieldSelector": f"spec.nodeName={node_name}",
        "labelSelector": f"{LABEL_LIMITED}=true",
    }


def pod_watch(
    api: Api,
    node_name: str,
    tell: Callable[[News | PodsListed], None],
    log: Log,
    on_restart: Callable[[str], None] = lambda _: None,
) -> ListWatch[Pod]:
    """Tells what becomes of the pods of ``node_name``, from the first list on."""
    return ListWatch(
        api,
        PATH,
        pods_query(node_name),
        read_pod,
        _Teller(tell, log),
        observer=_Observer(log, on_restart),
        # 5,000 nodes must not all read from etcd.
        from_cache=True,
    )


class _Teller:
    """Implements ``kube.listwatch.Sink``."""

    def __init__(self, tell: Callable[[News | PodsListed], None], log: Log) -> None:
        self._tell = tell
        self._log = log

    def replace(self, objects: Iterable[Pod]) -> None:
        pods = tuple(objects)
        self._tell(PodsListed(pods))
        self._log.info("listed", pods=len(pods))

    def put(self, changed: Pod) -> None:
        self._tell(PodChanged(changed))

    def remove(self, removed: Pod) -> None:
        self._tell(PodGone(removed))


class _Observer(Observer):
    def __init__(self, log: Log, on_restart: Callable[[str], None]) -> None:
        self._log = log
        self._on_restart = on_restart

    def restarted(self, reason: str) -> None:
        self._on_restart(reason)

    def unreadable(self, reason: str) -> None:
        self._log.warning("failed", operation="read pod", reason=reason)
