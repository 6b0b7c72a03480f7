"""Events for people who ask why."""

from datetime import UTC, datetime
from typing import Final

from contract import names
from kube.ports import Json

WARNING: Final = "Warning"
NORMAL: Final = "Normal"
_NOTE_BYTES: Final = 1000
_COMPONENT: Final = f"{names.DOMAIN}/webhook"


def make_event(about: Json, kind: str, reason: str, note: str, now: float) -> Json:
    """A core/v1 Event about one version of an object; ``note`` is cut to what fits.

    Its name follows from the version, so replicas that say the same make one Event.
    """
    metadata = about["metadata"]
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:200]}.{metadata['resourceVersion']}.{reason.lower()}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": "v1",
            "kind": about.get("kind", "ConfigMap"),
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid"),
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": kind,
        "reason": reason,
        "message": note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "reportingInstance": "webhook",
    }
