"""enforcer.pods.news_queue: what comes first."""

from enforcer.pods.news import CgroupAppeared, CgroupVanished, Looked, PodGone, Resynced
from enforcer.pods.news_queue import NewsQueue
from tests.unit.enforcer.pod_json import make_pod


def test_cgroups_come_before_pods_and_each_in_order():
    """A new cgroup is limited before anybody reads that another pod became ready."""
    queue = NewsQueue()
    vanished, appeared = CgroupVanished("a", "/a"), CgroupAppeared("a", "/a")
    gone, resynced, looked = PodGone(make_pod()), Resynced(), Looked("/b")
    for news in (gone, vanished, resynced, appeared, looked):
        queue.put(news)

    assert [queue.get(0.1) for _ in range(5)] == [vanished, appeared, gone, resynced, looked]


def test_nobody_waits_longer_than_asked():
    """None when nothing came."""
    assert NewsQueue().get(0.001) is None
