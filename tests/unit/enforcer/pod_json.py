"""Pods as the API server sends them."""

import json
from typing import Any

from contract import names
from enforcer.pods.pod import Pod, read_pod

Json = dict[str, Any]
UID = "11111111-2222-3333-4444-55555555555{}"


def labels(egress: str | None = "5000000", ingress: str | None = None, **more: str) -> Json:
    """The labels that the webhook writes; ``more`` are names without our domain."""
    found = {
        names.LABEL_LIMITED: "true",
        names.LABEL_EGRESS_BITS_PER_SECOND: egress,
        names.LABEL_INGRESS_BITS_PER_SECOND: ingress,
        names.LABEL_SOURCE: "pod",
        names.LABEL_MODE: "enforce",
    } | {f"{names.DOMAIN}/{key.replace('_', '-')}": text for key, text in more.items()}
    return {key: text for key, text in found.items() if text is not None}


def pod_json(number: int = 1, **changes: Any) -> Json:
    """Pod ``p<number>``; ``changes`` are labels, annotations, uid, deleted, gated, conditions…"""
    metadata: Json = {
        "name": f"p{number}",
        "namespace": "shop",
        "uid": changes.get("uid", UID.format(number)),
        "resourceVersion": str(changes.get("version", 7)),
        "generation": 1,
        "labels": changes.get("labels", labels()),
        "managedFields": [{"manager": "kubelet"}],
    }
    if "annotations" in changes:
        metadata["annotations"] = changes["annotations"]
    if changes.get("deleted"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec: Json = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}
    if changes.get("gated"):
        spec["readinessGates"] = [{"conditionType": names.CONDITION_BANDWIDTH_ENFORCED}]
    if changes.get("host_network"):
        spec["hostNetwork"] = True
    status: Json = {"phase": changes.get("phase", "Running"), "podIP": "10.0.0.1"}
    if "containers" in changes:
        status["containerStatuses"] = changes["containers"]
    if "conditions" in changes:
        status["conditions"] = changes["conditions"]
    return {"metadata": metadata, "spec": spec, "status": status}


def make_pod(number: int = 1, **changes: Any) -> Pod:
    """The same, read."""
    return read_pod(json.dumps(pod_json(number, **changes)).encode())


def condition_json(status: str, reason: str, message: str) -> list[Json]:
    """Ours among others, as the API server has it."""
    return [
        {"type": "Ready", "status": "True", "lastProbeTime": None},
        {
            "type": names.CONDITION_BANDWIDTH_ENFORCED,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        },
    ]
