"""Puts the aggregated API together."""

from typing import TYPE_CHECKING, Final

from webhook.loops import Loops
from webhook.settings import Settings
from webhook.tls import LiveContext

if TYPE_CHECKING:
    from webhook.serve import StatsServer

_READ_SECONDS: Final = 2.0


def start(settings: Settings, live: LiveContext, loops: Loops) -> "StatsServer | None":
    """What is to be served, where it is wanted and there is a cluster.

    Raises:
        NoClusterError: neither address nor credentials.
    """
    if not settings.stats_port or settings.policy_dir is not None:
        return None
    # Imported only where they are wanted: serving from a folder needs no client.
    from kube.api import KubeApi
    from kube.credentials import load
    from webhook.serve import StatsServer
    from webhook.stats.app import StatsApp
    from webhook.stats.front_proxy import FrontProxy
    from webhook.stats.leaving import leave
    from webhook.stats.nodes import Nodes

    # Requests of its own: those of the loops that admission needs never wait for these.
    api = KubeApi(lambda: load(settings.kubeconfig), read_seconds=_READ_SECONDS)
    front_proxy = FrontProxy(api, live)
    # No reason to start admission anew.
    loops.add("front proxy", vital=False).start(front_proxy.step)
    return StatsServer(
        StatsApp(Nodes(api, settings.release_namespace).read),
        lambda: front_proxy.context,
        front_proxy.admits,
        lambda: leave(api, settings.release_namespace),
    )
