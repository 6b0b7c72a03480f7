"""The audit put together: election, watches, and the loop that corrects."""

import contextlib
import socket
import time
import uuid
from collections.abc import Callable

from kube.errors import ApiError
from kube.listwatch import ListWatch
from kube.ports import Api
from webhook.drift import decode_pod
from webhook.kube.audit import ALWAYS_EXEMPT, PATH, Audit, pods_query
from webhook.kube.election import Election, Leadership
from webhook.kube.observer import WatchObserver
from webhook.kube.policies import event_poster
from webhook.loops import Loops
from webhook.metrics import Metrics
from webhook.policies import PolicyStore
from webhook.settings import Settings

_IDLE_SECONDS = 1.0


def start_audit(
    api: Api, store: PolicyStore, metrics: Metrics, loops: Loops, settings: Settings
) -> Callable[[], None]:
    """Starts its loops; returns what to do after the last of them."""
    release = settings.release_namespace
    identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
    election = Election(api, release, f"{settings.service}-audit", identity)
    leadership = Leadership(election, metrics)
    audit = Audit(
        api,
        store,
        metrics,
        leading=lambda: leadership.leading,
        interval_seconds=settings.audit_seconds,
        post_event=event_poster(api),
    )
    exempt = ALWAYS_EXEMPT | {release, *settings.exempt_namespaces}
    loop = loops.add("pod watch")
    pod_watch = ListWatch(
        api,
        PATH,
        pods_query(exempt),
        decode_pod,
        audit,
        observer=WatchObserver(metrics, loop),
        metadata_only=True,
    )

    def follow_pods() -> float:
        """Only a leader needs them; one that has been knows them still."""
        if not (leadership.leading or audit.listed):
            return _IDLE_SECONDS
        pod_watch.step()
        return 0.0

    loops.add("election").start(leadership.step)
    loop.start(follow_pods)
    loops.add("audit").start(audit.step)

    def give_back_the_lease() -> None:
        with contextlib.suppress(ApiError):
            election.resign(time.time())

    return give_back_the_lease
