"""Policies from a folder of manifests, for serving without a cluster."""

from pathlib import Path

import structlog

from webhook.errors import WebhookError
from webhook.manifests import NamedNamespace, NamedPolicy, UnusableInputError, load
from webhook.policies import PolicyStore

log = structlog.stdlib.get_logger()


class PolicyFolder:
    """Every ``*.yaml`` below a folder; looked at every half second, so changes count within 1 s."""

    def __init__(self, folder: Path, store: PolicyStore, default_namespace: str) -> None:
        self._folder = folder
        self._store = store
        self._default_namespace = default_namespace
        self._seen: object = None

    def step(self) -> float:
        """Read again what has changed; returns the pause until the next look, in seconds.

        Raises:
            WebhookError: a file cannot be read; the policies read before stay in force.
        """
        if not self._folder.is_dir():
            message = f"{self._folder} is not a folder; give one with --policy-dir"
            raise WebhookError(message)
        try:
            files = sorted(self._folder.rglob("*.yaml"))
            seen = [(f, (s := f.stat()).st_mtime_ns, s.st_size) for f in files]
            if seen == self._seen:
                return 0.5
            objects = [o for f in files for o in load(str(f), self._default_namespace).named]
        except (OSError, UnusableInputError) as e:
            raise WebhookError(f"policies in {self._folder}: {e}") from e
        release = self._store.release_namespace
        policies = {
            o.key: o.config_map.data or {}
            for o in objects
            if isinstance(o, NamedPolicy) and o.scope(release) is not None
        }
        self._store.replace_namespaces(
            {o.name: o.labels for o in objects if isinstance(o, NamedNamespace)}
        )
        self._store.replace(policies)
        self._seen = seen
        log.info(
            "policies read",
            policies=["/".join(key) for key in sorted(policies)],
            bad={"/".join(k): [str(p)[:200] for p in bad] for k, bad in self._store.bad.items()},
        )
        return 0.5
