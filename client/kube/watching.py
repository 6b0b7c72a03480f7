"""``list --watch``: a pod is shown when anything of its row has changed."""

from collections.abc import Callable, Iterable

from client.kube.pods import PodLimits


class Changed:
    """Implements ``kube.listwatch.Sink``; ``show`` gets each pod that is not as it was shown."""

    def __init__(self, shown: Iterable[PodLimits], show: Callable[[PodLimits], None]) -> None:
        self._last = {(pod.namespace, pod.name): pod for pod in shown}
        self._show = show

    def replace(self, objects: Iterable[PodLimits]) -> None:
        """All there are, after a pause."""
        for pod in objects:
            self.put(pod)

    def put(self, changed: PodLimits) -> None:
        """One is new or changed."""
        key = (changed.namespace, changed.name)
        if self._last.get(key) != changed:
            self._last[key] = changed
            self._show(changed)

    def remove(self, removed: PodLimits) -> None:
        """One is gone, or limited no more; as it was at the end."""
        self._last.pop((removed.namespace, removed.name), None)
