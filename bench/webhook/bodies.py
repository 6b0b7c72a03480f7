"""Reviews of pods of a given size, shaped as real pods are: containers, variables, volumes."""

import json
from typing import Any

from contract import names


def review(size_bytes: int) -> bytes:
    """A review of about ``size_bytes``, with both limits asked for."""
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-6f7c9d8b54-",
            "namespace": "shop",
            "labels": {"app.kubernetes.io/name": "web", "pod-template-hash": "6f7c9d8b54"},
            "annotations": {
                names.ANNOTATION_INGRESS_BANDWIDTH: "100M",
                names.ANNOTATION_EGRESS_BANDWIDTH: "50M",
                "prometheus.io/scrape": "true",
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "web-6f7c9d8b54",
                    "uid": "0b8ab6a5-6f45-4b6c-9f16-31b2a3f7a3b1",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"containers": [], "tolerations": [], "serviceAccountName": "web"},
    }
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "object": pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    }
    number = 0
    while len(json.dumps(body)) < size_bytes - 600:
        pod["spec"]["containers"].append(_container(number))
        number += 1
    padding = size_bytes - len(json.dumps(body)) - len(', "example.com/note": ""')
    pod["metadata"]["annotations"]["example.com/note"] = "n" * max(padding, 0)
    return json.dumps(body).encode()


def _container(number: int) -> dict[str, Any]:
    return {
        "name": f"container-{number}",
        "image": f"registry.example.com/shop/part-{number}:1.2.3",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}},
        "env": [{"name": f"SETTING_{n}", "value": f"value-{n}"} for n in range(4)],
        "volumeMounts": [{"name": "data", "mountPath": f"/data/{number}", "readOnly": True}],
        "terminationMessagePath": "/dev/termination-log",
    }
