"""Values that people choose, each with a name."""

from typing import Any, Final

import yaml

from tests.chart.helm import CHART

_MONITORING: Final = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"folder": "Network"}},
}

_MORE: Final[dict[str, Any]] = {
    "annotations": {"note": "x"},
    "labels": {"a": "b"},
    "podLabels": {"a": "b"},
    "revisionHistoryLimit": 2,
    "podSecurityContext": {"supplementalGroups": [7]},
    "containerSecurityContext": {"seccompProfile": {"type": "Unconfined"}},
    "extraArgs": ["--log-level=debug"],
    "extraEnv": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "initContainers": [
        {
            "name": "wait",
            "image": "wait",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"limits": {"memory": "16Mi"}},
        }
    ],
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["192.0.2.53"]},
    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["registry"]}],
    "readinessProbe": {"periodSeconds": 7},
    "image": {"registry": "own.example"},
}

PLATFORMS: Final[dict[str, dict[str, Any]]] = {
    file.stem: yaml.safe_load(file.read_text())
    for file in sorted((CHART / "platforms").glob("*.yaml"))
}
"""What the chart brings for each."""

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
    "cert-manager, self-signed": {
        "webhook": {"certificates": {"mode": "certManager"}},
        "stats": {"enabled": True},
    },
    "counters for users": {
        "stats": {"enabled": True, "port": 9000, "aggregateTo": "edit"},
        "networkPolicy": {"enabled": True},
    },
    "a Secret that is there": {
        "webhook": {
            "certificates": {"mode": "secret", "secret": {"name": "tls", "caBundle": "QQ=="}}
        }
    },
    "every policy key": {
        "policy": {
            "ingress": {
                "default": "10M",
                "min": "1M",
                "max": "1G",
                "burstMax": "16Mi",
                "totalPerNode": "2G",
                "requestDefault": "2M",
                "requestMin": "1M",
                "requestMax": "9M",
            },
            "egress": {
                "default": "5M",
                "min": "1M",
                "max": "1G",
                "burstMax": "16Mi",
                "totalPerNode": "2G",
                "requestDefault": "2M",
                "requestMin": "1M",
                "requestMax": "9M",
            },
            "onViolation": "clamp",
            "require": "both",
            "takeOver": False,
            "schedule": True,
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
    "other names, accounts that are there, a namespace of its own": {
        "fullnameOverride": "net-pace",
        "nameOverride": "pace",
        "namespaceOverride": "net-pace",
        "commonLabels": {"cost-center": "7"},
        "global": {
            "imageRegistry": "global.example",
            "imagePullSecrets": ["one", {"name": "two"}],
            "commonLabels": {"owner": "net"},
            "nodeSelector": {"pool": "general"},
        },
        "webhook": {"serviceAccount": {"create": False, "name": "admission"}},
        "enforcer": {"serviceAccount": {"annotations": {"note": "x"}, "labels": {"a": "b"}}},
        "liveChanges": {"requireVerb": True, "aggregateTo": "edit"},
        "monitoring": _MONITORING,
        "test": {"namespace": "sandbox"},
    },
    "everything more": {
        "webhook": {
            **_MORE,
            "auditSeconds": 0,
            "service": {
                "annotations": {"note": "x"},
                "labels": {"a": "b"},
                "ipFamilyPolicy": "PreferDualStack",
                "ipFamilies": ["IPv4"],
            },
            "configuration": {
                "annotations": {"note": "x"},
                "namespaceSelector": {
                    "matchLabels": {"limits": "on"},
                    "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}],
                },
                "objectSelector": {"matchLabels": {"limits": "on"}},
                "matchConditions": [{"name": "not-ci", "expression": "request.namespace != 'ci'"}],
                "reinvocationPolicy": "Never",
            },
            "strategy": {"type": "Recreate"},
            "podDisruptionBudget": {"maxUnavailable": 1},
            "topologySpreadConstraints": [
                {
                    "topologyKey": "topology.kubernetes.io/zone",
                    "maxSkew": 1,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {
                        "matchLabels": {
                            "app.kubernetes.io/name": "podpace",
                            "app.kubernetes.io/component": "webhook",
                        }
                    },
                }
            ],
        },
        "enforcer": {**_MORE, "updateStrategy": {"type": "OnDelete"}},
        "networkPolicy": {
            "enabled": True,
            "extraIngress": [{"ports": [{"port": 9999}]}],
            "extraEgress": [{"ports": [{"port": 9999}]}],
        },
        "monitoring": {
            "serviceMonitor": {
                "enabled": True,
                "scrapeTimeout": "10s",
                "annotations": {"note": "x"},
                "namespace": "monitoring",
                "jobLabel": "app.kubernetes.io/component",
                "relabelings": [{"targetLabel": "cluster", "replacement": "one"}],
                "metricRelabelings": [{"regex": "le", "action": "labeldrop"}],
            },
            "prometheusRule": {
                "enabled": True,
                "annotations": {"a": "b"},
                "namespace": "monitoring",
            },
            "dashboard": {"enabled": True, "namespace": "monitoring"},
        },
        "rbac": {"readPolicies": False},
        "policy": {"egress": {"max": "1G"}},
        "hooks": {
            "resources": {"limits": {"cpu": "1", "memory": "256Mi"}},
            "podLabels": {"a": "b"},
            "podAnnotations": {"a": "b"},
            "priorityClassName": "system-cluster-critical",
            "affinity": {"podAntiAffinity": {}},
        },
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": "{{ .Release.Name }}-extra",
                    "namespace": "podpace-system",
                    "labels": {"app.kubernetes.io/name": "podpace"},
                },
            },
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: second\n  namespace: "
            "podpace-system\n"
            '  labels: {{- include "podpace.labels" (dict "root" $ "component" "x") | nindent 4 }}',
        ],
    },
    **{f"platform {name}": values for name, values in PLATFORMS.items()},
}
