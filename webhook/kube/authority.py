"""The authority that replicas share in a Secret, and its bundle in the webhook configurations."""

import base64
from dataclasses import dataclass
from datetime import timedelta
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
from contract import names
from kube.errors import ConflictError, NotFoundError
from kube.ports import Api, Json
from webhook.errors import CertificateError

log = structlog.stdlib.get_logger()

SECRET: Final = "podpace-webhook-ca"  # noqa: S105 - its name, not its content
_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1"
KINDS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


@dataclass(frozen=True)
class SharedAuthority:
    """Any replica may take any step; the Secret's resourceVersion settles who was first."""

    api: Api
    namespace: str
    overlap: timedelta = OVERLAP

    def current(self) -> AuthorityState:
        """The state in the Secret, after the step that is due, if one is.

        Raises:
            ApiError: the Secret could not be read or written.
            CertificateError: it holds something else.
        """
        secrets = f"/api/v1/namespaces/{self.namespace}/secrets"
        now = utc_now()
        for _ in range(5):
            try:
                secret = self.api.get(f"{secrets}/{SECRET}")
            except NotFoundError:
                state = first_state(now)
                if self._written("create", secrets, _secret(self.namespace, state)):
                    return state
                continue
            if not secret.get("data"):
                # The chart makes it empty, so that it goes with the release.
                state = first_state(now)
                secret["data"] = _encode(state)
                if self._written("replace", f"{secrets}/{SECRET}", secret):
                    return state
                continue
            try:
                data = {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()}
                state = from_secret_data(data)
            except (UnusableAuthorityError, ValueError) as e:
                raise CertificateError(f"Secret {self.namespace}/{SECRET}: {e}") from e
            annotations = secret["metadata"].get("annotations") or {}
            force = annotations.pop(names.ANNOTATION_ROTATE, None) is not None
            due = next_state(state, now, self.overlap, force=force)
            if due == state and not force:
                return state
            secret["data"] = _encode(due)
            secret["metadata"]["annotations"] = annotations
            if self._written("replace", f"{secrets}/{SECRET}", secret):
                return due
        message = f"Secret {self.namespace}/{SECRET} changes faster than it can be read"
        raise CertificateError(message)

    def _written(self, verb: str, path: str, secret: Json) -> bool:
        try:
            self.api.create(path, secret) if verb == "create" else self.api.replace(path, secret)
        except ConflictError:
            return False
        log.info("authority written", secret=SECRET)
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


def _secret(namespace: str, state: AuthorityState) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "podpace-webhook"},
        },
        "type": "Opaque",
        "data": _encode(state),
    }
