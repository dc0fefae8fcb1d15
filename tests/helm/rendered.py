"""What the chart renders: helm and its answers, as Python objects."""

import copy
import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "roundtable"
# tests/helm/run sets these.
HELM = os.environ.get("HELM", str(ROOT / "target" / "helm" / "bin" / "helm" / "helm"))
PROGRAM = os.environ.get("ROUNDTABLE_PROGRAM", str(ROOT / "target" / "debug" / "roundtable"))


def run(arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options)


def template(values=None, files=(), kube="1.32.0", release="rt"):
    """`helm template` with these values; the finished process."""
    arguments = [HELM, "template", release, str(CHART), "--kube-version", kube, "--namespace", "chat"]
    for file in files:
        arguments += ["--values", str(CHART / file)]
    if values:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(values, file)
            file.flush()
            return run([*arguments, "--values", file.name])
    return run(arguments)


class NoDuplicates(yaml.CSafeLoader):
    """YAML lets a later key hide an earlier one; nobody means that."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"twice in one mapping: {twice}, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def objects(values=None, files=(), kube="1.32.0", release="rt"):
    """All objects of a release."""
    # Copies: whoever changes theirs changes nobody else's.
    return copy.deepcopy(list(_objects(json.dumps(values), tuple(files), kube, release)))


@functools.lru_cache(maxsize=None)
def _objects(values, files, kube, release):
    done = template(json.loads(values), files, kube, release)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return tuple(found for found in yaml.load_all(done.stdout, NoDuplicates) if found)


def one(all_objects, kind, name=None):
    """The only object of that kind (and name)."""
    found = [o for o in all_objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} of {kind} {name}: {[o['metadata']['name'] for o in found]}")
    return found[0]


def nodes(all_objects):
    """The Deployment of the nodes."""
    return one(all_objects, "Deployment", next(
        o["metadata"]["name"] for o in all_objects
        if o["kind"] == "Deployment" and o["metadata"]["labels"].get("app.kubernetes.io/component") == "node"
    ))


def pod_specs(all_objects):
    """(name, pod's metadata, pod's spec) of everything that runs."""
    for o in all_objects:
        if o["kind"] == "Pod":
            yield o["metadata"]["name"], o["metadata"], o["spec"]
        elif o["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield o["metadata"]["name"], o["spec"]["template"].get("metadata", {}), o["spec"]["template"]["spec"]
        elif o["kind"] == "CronJob":
            template = o["spec"]["jobTemplate"]["spec"]["template"]
            yield o["metadata"]["name"], template.get("metadata", {}), template["spec"]


# What people give, by name; every one of them has to render objects that Kubernetes takes.
MATRIX = {
    "defaults": {},
    "one node": {"replicaCount": 1},
    "asleep": {"replicaCount": 0},
    "own services": {
        "postgresql": {"enabled": False},
        "redis": {"enabled": False},
        "secrets": {"storeUrl": {"existingSecret": "db", "key": "url"}, "redisUrl": {"existingSecret": "bus"}},
    },
    "all secrets": {
        "secrets": {
            "jwtSecret": {"generate": True},
            "attachmentsUrl": {"existingSecret": "bucket"},
            "attachmentsSecret": {"existingSecret": "att", "key": "k"},
            "oidcClientSecret": {"existingSecret": "oidc"},
            "beforeSendSecret": {"existingSecret": "hook"},
            "encryptionKeys": {"existingSecret": "keys"},
            "sentryDsn": {"existingSecret": "sentry"},
            "tracesHeaders": {"existingSecret": "collector"},
        },
        "settings": {
            "encryption": {"rooms": "private", "active": "k1"},
            "traces": {"otlp_url": "http://collector:4318/v1/traces", "sample": 0.05},
            "server": {"public_url": "https://chat.example.org"},
            "auth": {"oidc": {"issuer": "https://login.example.org", "client_id": "chat", "scopes": ["profile", "email"]}},
            "hooks": {"before_send": {"url": "http://hook.example.org/", "when_away": "refuse", "rooms": ["a", "b"]}},
        },
        "extraEnvFrom": [{"secretRef": {"name": "bucket"}}],
    },
    "settings": {
        "settings": {
            "server": {"shutdown_s": 90, "compression": False, "trusted_proxies": ["10.0.0.0/8", "192.168.0.1"]},
            "attachments": {"url": "s3://files/prefix?region=eu-1", "max_bytes": 5368709120, "per_user_bytes": 1099511627776},
            "limits": {"replay": 1000000},
            "log": {"level": "info,roundtable=debug"},
        }
    },
    "ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"},
            "hosts": ["chat.example.org", "*.chat.example.org"],
            "tls": [{"secretName": "chat-tls", "hosts": ["chat.example.org"]}],
        }
    },
    "route": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["chat.example.org"],
            "timeouts": {"request": "0s"},
            "canary": {"service": "rt-canary-roundtable", "weight": 20},
        }
    },
    "backups": {
        "backup": {
            "enabled": True, "remote": "offsite:chat", "passphrase": {"existingSecret": "backup"},
            "rcloneConfig": {"existingSecret": "backup", "key": "conf"},
        },
    },
    "backups on a volume": {"backup": {"enabled": True, "storage": {"existingClaim": "backups"}, "keepDays": 0}},
    "load balancer": {
        "service": {
            "type": "LoadBalancer", "port": 443, "externalTrafficPolicy": "Local", "loadBalancerClass": "x.example/y",
            "loadBalancerSourceRanges": ["203.0.113.0/24"], "annotations": {"a": "b"},
        },
        "tls": {"existingSecret": "chat-tls"},
    },
    "tls with a test": {"tls": {"existingSecret": "chat-tls"}, "tests": {"url": "https://chat.example.org"}},
    "scaled": {
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 50, "targetSessionsPerPod": 20000},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
    },
    "scaled by sessions alone": {
        "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0, "targetSessionsPerPod": 5000}
    },
    "watched": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "disabled": ["RoundtableGuessing"], "runbookBase": "https://git.example.org/"},
            "dashboards": {"enabled": True, "annotations": {"folder": "chat"}},
        }
    },
    "fenced in": {
        "networkPolicy": {
            "enabled": True,
            "clientsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
            "adminFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}],
        }
    },
    "emptiest first": {
        "podDeletionCost": {"enabled": True}, "networkPolicy": {"enabled": True}, "serviceAccount": {"name": "chat"},
        "settings": {"cluster": {"rebalance_per_minute": 600}}, "backup": {"enabled": True, "remote": "offsite:chat"},
    },
    "placed": {
        "nameOverride": "chat",
        "fullnameOverride": "a-very-long-name-that-goes-on-and-on-and-on-for-more-than-it-should",
        "commonLabels": {"team": "chat"},
        "podLabels": {"tier": "web"},
        "podAnnotations": {"note": "x"},
        "nodeSelector": {"pool": "chat"},
        "tolerations": [{"key": "chat", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "high",
        "topologySpread": {"whenUnsatisfiable": "DoNotSchedule"},
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"repository": "registry.example.org:5000/chat/roundtable", "digest": "sha256:" + "0" * 64},
        "extraVolumes": [{"name": "keys", "configMap": {"name": "keys"}}],
        "extraVolumeMounts": [{"name": "keys", "mountPath": "/run/keys", "readOnly": True}],
        "serviceAccount": {"create": False, "name": "chat"},
    },
    "bare": {
        "migrations": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "topologySpread": {"enabled": False},
        "serviceAccount": {"create": False}, "drain": {"preStopSeconds": 0},
        "postgresql": {"storage": {"size": "1Gi", "className": "fast"}},
    },
}
