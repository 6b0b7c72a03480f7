"""The authority that replicas share in a Secret, and its bundle in the webhook configurations."""

import base64
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from certs.authority import utc_now
from certs.rotation import (
    OVERLAP,
    AuthorityState,
    UnusableAuthorityError,
    first_state,
    from_secret_data,
    next_state,
    to_secret_data,
)
from contract import names, stats
from kube.errors import ConflictError, NotFoundError
from kube.ports import Api, Json
from webhook.errors import CertificateError

log = structlog.stdlib.get_logger()

SECRET: Final = "podpace-webhook-ca"  # noqa: S105 - its name, not its content
API_SERVICE: Final = f"/apis/apiregistration.k8s.io/v1/apiservices/{stats.API_SERVICE}"
_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1"
KINDS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


@dataclass
class SharedAuthority:
    """Any replica may take any step; the Secret's resourceVersion settles who was first.

    A Secret that somebody emptied or wrote something else into is repaired with what this replica
    knows of it, so that trust goes on. One that was deleted, or deleted and made anew, gets a new
    authority: that is how one is revoked.
    """

    api: Api
    namespace: str
    overlap: timedelta = OVERLAP
    now: Callable[[], datetime] = utc_now
    secret: str = SECRET
    """Its name."""
    _known: tuple[str, AuthorityState] | None = field(default=None, init=False)
    """The Secret's uid and the state that it had last."""

    def current(self) -> AuthorityState:
        """The state in the Secret, after the step that is due, if one is.

        Raises:
            ApiError: the Secret could not be read or written.
            CertificateError: others write it faster than we can.
        """
        secrets = f"/api/v1/namespaces/{self.namespace}/secrets"
        for _ in range(5):
            try:
                secret = self.api.get(f"{secrets}/{self.secret}")
            except NotFoundError:
                with contextlib.suppress(ConflictError):
                    self.api.create(secrets, _secret(self.namespace, self.secret))
                continue
            found = self._read(secret)
            state = found or self._lost(secret["metadata"].get("uid", ""))
            annotations = secret["metadata"].get("annotations") or {}
            force = annotations.pop(names.ANNOTATION_ROTATE, None) is not None
            due = next_state(state, self.now(), self.overlap, force=force)
            if due != found or force:
                secret["data"] = _encode(due)
                secret["metadata"]["annotations"] = annotations
                try:
                    secret = self.api.replace(f"{secrets}/{self.secret}", secret)
                except (ConflictError, NotFoundError):
                    continue
                log.info("authority written", secret=self.secret)
            self._known = (secret["metadata"].get("uid", ""), due)
            return due
        message = f"Secret {self.namespace}/{self.secret} changes faster than it can be read"
        raise CertificateError(message)

    def last_known(self) -> AuthorityState | None:
        """What it was when the API server last told."""
        return self._known[1] if self._known else None

    def _read(self, secret: Json) -> AuthorityState | None:
        """What the Secret says; None when it is empty, as the chart makes it, or spoilt."""
        if not secret.get("data"):
            return None
        try:
            data = {k: base64.b64decode(v, validate=True) for k, v in secret["data"].items()}
            return from_secret_data(data)
        except (UnusableAuthorityError, ValueError, TypeError) as e:
            log.warning("authority spoilt", secret=self.secret, reason=str(e)[:300])
            return None

    def _lost(self, uid: str) -> AuthorityState:
        if self._known is not None and self._known[0] == uid:
            log.warning("authority restored from memory", secret=self.secret)
            return self._known[1]
        return first_state(self.now())


def publish_to_aggregator(api: Api, bundle: bytes) -> bool:
    """Puts the bundle in the APIService, where there is one; returns whether it was changed.

    Raises:
        ApiError: it could not be read or written; the next call goes on.
    """
    encoded = base64.b64encode(bundle).decode()
    try:
        found = api.get(API_SERVICE)
    except NotFoundError:
        return False
    if found["spec"].get("caBundle") == encoded:
        return False
    version = found["metadata"]["resourceVersion"]
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    put = {"op": "add", "path": "/spec/caBundle", "value": encoded}
    api.json_patch(API_SERVICE, [guard, put])
    log.info("caBundle published", configuration=f"apiservices/{stats.API_SERVICE}")
    return True


def publish_bundle(api: Api, configuration: str, bundle: bytes) -> int:
    """Puts the bundle in every webhook of both configurations of that name.

    Returns how many configurations were changed. One that does not exist is passed over: there is
    nobody to trust us yet.

    Raises:
        ApiError: a configuration could not be read or written; the next call goes on.
    """
    encoded = base64.b64encode(bundle).decode()
    changed = 0
    for kind in KINDS:
        path = f"{_CONFIGURATIONS}/{kind}/{configuration}"
        try:
            found = api.get(path)
        except NotFoundError:
            continue
        operations: list[Json] = [
            {
                "op": "add",
                "path": f"/webhooks/{position}/clientConfig/caBundle",
                "value": encoded,
            }
            for position, webhook in enumerate(found.get("webhooks") or [])
            if webhook["clientConfig"].get("caBundle") != encoded
        ]
        if not operations:
            continue
        version = found["metadata"]["resourceVersion"]
        guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        api.json_patch(path, [guard, *operations])
        changed += 1
        log.info("caBundle published", configuration=f"{kind}/{configuration}")
    return changed


def _encode(state: AuthorityState) -> dict[str, str]:
    return {k: base64.b64encode(v).decode() for k, v in to_secret_data(state).items()}


def _secret(namespace: str, name: str) -> Json:
    """Empty, as the chart makes it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "podpace-webhook"},
        },
        "type": "Opaque",
    }
