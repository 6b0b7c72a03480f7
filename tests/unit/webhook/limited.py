"""A limited pod in the API server."""

from contract import names
from kube.ports import Json


def limited_pod() -> Json:
    """As the webhook and the enforcer have left it; labels of others on it."""
    claim = {"type": names.CONDITION_BANDWIDTH_ENFORCED, "status": "True"}
    return {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "u",
            "labels": {names.LABEL_LIMITED: "true", names.LABEL_SOURCE: "pod", "app": "web"},
            "annotations": {
                names.ANNOTATION_EGRESS_BANDWIDTH: "1M",
                names.ANNOTATION_EXEMPT_CIDRS: "10.0.0.0/8",
            },
        },
        "spec": {"nodeName": "a"},
        "status": {"phase": "Running", "conditions": [claim]},
    }
