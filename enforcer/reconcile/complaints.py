"""Failures that nobody asked for: counted each time, told once."""

from collections.abc import Callable

from enforcer.ports import Log
from enforcer.state import Target


class Complaints:
    """Told of failures and of what worked again. Safe to call from several threads."""

    def __init__(self, log: Log, count_error: Callable[[str], None]) -> None:
        self._log = log
        self._count_error = count_error
        self._told: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        """Whether anything that failed has not worked since."""
        return bool(self._told)

    def count(self, operation: str) -> None:
        """A failure that its asker is told."""
        self._count_error(operation)

    def failed(
        self, operation: str, reason: str, target: Target | None = None, **fields: str
    ) -> None:
        """Count it, but log it only when it is not what was logged last; ``fields`` go along."""
        self.count(operation)
        key = _key(operation, target)
        if self._told.get(key) != reason:
            self._told[key] = reason
            if target is not None:
                fields["target"] = target.name
            self._log.warning("failed", operation=operation, reason=reason[:500], **fields)

    def worked(self, operation: str, target: Target | None = None) -> None:
        """The next failure is news again."""
        self._told.pop(_key(operation, target), None)

    def forget(self, cgroup_path: str) -> None:
        """There is no target any more."""
        for key in [key for key in list(self._told) if key[1] == cgroup_path]:
            self._told.pop(key, None)


def _key(operation: str, target: Target | None) -> tuple[str, str]:
    return operation, "" if target is None else target.cgroup_path
