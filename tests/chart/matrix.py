"""Values that people choose, each with a name."""

from typing import Any, Final

_MONITORING: Final = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"folder": "Network"}},
}

MATRIX: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "one replica, nothing optional": {
        "webhook": {"replicas": 1, "auditSeconds": 0, "podDisruptionBudget": {"enabled": False}},
        "policy": {"create": False},
        "uninstall": {"cleanNodes": False},
    },
    "fail closed": {"webhook": {"failurePolicy": "Fail", "replicas": 3, "timeoutSeconds": 5}},
    "cert-manager, own issuer": {
        "webhook": {
            "certificates": {
                "mode": "certManager",
                "certManager": {"issuerRef": {"name": "corp", "kind": "ClusterIssuer"}},
            }
        }
    },
    "cert-manager, self-signed": {"webhook": {"certificates": {"mode": "certManager"}}},
    "a Secret that is there": {
        "webhook": {
            "certificates": {"mode": "secret", "secret": {"name": "tls", "caBundle": "QQ=="}}
        }
    },
    "every policy key": {
        "policy": {
            "ingress": {"default": "10M", "min": "1M", "max": "1G", "burstMax": "16Mi"},
            "egress": {"default": "5M", "min": "1M", "max": "1G", "burstMax": "16Mi"},
            "onViolation": "clamp",
            "require": "both",
            "takeOver": False,
            "mode": "observe",
            "readinessGate": "never",
            "exemptCidrs": ["10.0.0.0/8", "fd00::/8"],
        }
    },
    "policies that select, live changes by those with the verb": {
        "policy": {"egress": {"max": "1G"}, "review": False},
        "policies": {
            "free-tier": {
                "namespaceSelector": "tier in (free,trial)",
                "priority": 10,
                "egress": {"max": "10M"},
            },
            "late": {"priority": -123456789, "mode": "observe"},
        },
        "liveChanges": {"requireVerb": True},
    },
    "a cloud's narrow ports, own registry": {
        "image": {
            "registry": "registry.example/team",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "login"}],
        },
        "webhook": {
            "image": {"digest": "sha256:" + "0" * 64},
            "port": 10250,
            "hostNetwork": True,
            "exemptNamespaces": ["gitlab", "backup", "2024", "on"],
            "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
            "podLabels": {"team": "net"},
            "podAnnotations": {"note": "x"},
        },
        "enforcer": {
            "image": {"tag": "1.2.3"},
            "cgroupRoot": "/sys/fs/cgroup/unified",
            "podMetrics": False,
            "maxUnavailable": 1,
            "seLinuxOptions": {"type": "spc_t"},
            "appArmorProfile": {"type": "RuntimeDefault"},
            "nodeSelector": {"net": "limited"},
            "podLabels": {"team": "net"},
            "podAnnotations": {"note": "x"},
        },
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "resourceQuota": {"enabled": True},
        "test": {"namespace": "sandbox"},
    },
    "monitoring": {"monitoring": _MONITORING},
}
