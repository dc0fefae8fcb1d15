"""What people may give: the schema refuses the rest, and README.md says what there is."""

import json
import os
import re
import tomllib
import unittest

import yaml

from rendered import CHART, ROOT, template

# Settings that have values of their own, or that the chart decides.
OURS = {"server.bind", "server.redirect_bind", "server.tls.cert_file", "server.tls.key_file", "admin.bind", "attachments.url_file",
        "kubernetes.pod_deletion_cost", "kubernetes.pod_name", "kubernetes.account_folder"}
SECRET = {
    "store.url", "cluster.redis_url", "auth.jwt.secret", "auth.oidc.client_secret", "attachments.secret",
    "hooks.before_send.secret", "encryption.keys", "sentry.dsn",
    "traces.headers",
}


def keys(table, prefix=""):
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{path}.")
        else:
            yield path, value


def leaves(schema, prefix=""):
    for key, value in schema["properties"].items():
        if "properties" in value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Schema(unittest.TestCase):
    # Wrong values, each with what has to be said.
    WRONG = [
        ({"replicas": 3}, "replicas"),
        ({"replicaCount": "three"}, "replicaCount"),
        ({"replicaCount": -1}, "replicaCount"),
        ({"image": {"repository": "Roundtable"}}, "repository"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"settings": {"limits": {"inflite": 3}}}, "inflite"),
        ({"settings": {"limits": {"inflight": "many"}}}, "inflight"),
        ({"settings": {"limits": {"inflight": 1.5}}}, "inflight"),
        ({"settings": {"server": {"bind": "0.0.0.0:1"}}}, "bind"),
        ({"settings": {"admin": {"bind": "0.0.0.0:1"}}}, "admin"),
        ({"settings": {"server": {"shutdown_s": 0}}}, "shutdown_s"),
        ({"settings": {"server": {"trusted_proxies": "10.0.0.0/8"}}}, "trusted_proxies"),
        ({"settings": {"server": {"trusted_proxies": ["10.0.0.0/8,10.0.0.1"]}}}, "trusted_proxies"),
        # Secrets by reference alone.
        ({"settings": {"store": {"url": "postgres://u:p@h/d"}}}, "url"),
        ({"settings": {"cluster": {"redis_url": "redis://:p@h"}}}, "redis_url"),
        ({"settings": {"auth": {"jwt": {"secret": "s"}}}}, "secret"),
        ({"settings": {"attachments": {"url": "s3://KEY:SECRET@files"}}}, "attachments"),
        ({"secrets": {"storeUrl": {"value": "postgres://u:p@h/d"}}}, "value"),
        ({"secrets": {"storeUrl": {"existingSecret": "No Such"}}}, "existingSecret"),
        ({"secrets": {"password": {}}}, "password"),
        ({"service": {"type": "ExternalName"}}, "type"),
        ({"service": {"port": 0}}, "port"),
        ({"adminService": {"type": "LoadBalancer"}}, "adminService"),
        ({"ingress": {"enabled": "yes"}}, "enabled"),
        ({"ingress": {"hosts": [{"host": "a"}]}}, "hosts"),
        ({"httpRoute": {"canary": {"weight": 101}}}, "weight"),
        ({"httpRoute": {"timeouts": {"request": "soon"}}}, "request"),
        ({"drain": {"marginSeconds": 0}}, "marginSeconds"),
        ({"rollout": {"maxSurge": "a lot"}}, "maxSurge"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"probes": {"readiness": {"path": "/"}}}, "path"),
        ({"autoscaling": {"minReplicas": 0}}, "minReplicas"),
        ({"topologySpread": {"whenUnsatisfiable": "Maybe"}}, "whenUnsatisfiable"),
        ({"networkPolicy": {"storePorts": ["5432"]}}, "storePorts"),
        ({"networkPolicy": {"apiServerPorts": [0]}}, "apiServerPorts"),
        ({"podDeletionCost": {"enabled": "yes"}}, "enabled"),
        ({"settings": {"kubernetes": {"pod_deletion_cost": True}}}, "kubernetes"),
        ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "interval"),
        ({"resources": {"request": {}}}, "request"),
        ({"extraEnvFrom": [{"secret": "x"}]}, "secret"),
        ({"postgresql": {"storage": {"size": "much"}}}, "size"),
        ({"tests": {"url": "chat.example.org"}}, "url"),
    ]
    # Right by themselves, and wrong together.
    CONTRADICTORY = [
        ({"secrets": {"storeUrl": {"existingSecret": "db"}}}, "only one of the two"),
        ({"postgresql": {"enabled": False}}, "secrets.storeUrl.existingSecret"),
        ({"redis": {"enabled": False}}, "secrets.redisUrl.existingSecret"),
        ({"redis": {"enabled": False}, "replicaCount": 1, "autoscaling": {"enabled": True}}, "several nodes need Redis"),
        ({"secrets": {"redisUrl": {"existingSecret": "r"}}}, "only one of the two"),
        ({"secrets": {"jwtSecret": {"existingSecret": "j", "generate": True}}}, "exclude each other"),
        ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}, "autoscaling.minReplicas"),
        ({"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0}}, "targetSessionsPerPod"),
        ({"ingress": {"enabled": True}}, "ingress.hosts"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
        ({"httpRoute": {"canary": {"weight": 5}}}, "httpRoute.canary.service"),
        ({"secrets": {"attachmentsUrl": {"existingSecret": "a"}}, "settings": {"attachments": {"url": "s3://b"}}}, "only one of the two"),
        ({"settings": {"encryption": {"rooms": "all"}}}, "secrets.encryptionKeys.existingSecret"),
        ({"backup": {"enabled": True}}, "backup.remote"),
        ({"podDeletionCost": {"enabled": True}, "serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"rollout": {"maxSurge": 0, "maxUnavailable": 0}}, "can't both be 0"),
    ]

    def test_what_is_wrong_is_refused_by_name(self):
        for values, part in self.WRONG:
            with self.subTest(values=values):
                done = template(values)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("don't meet the specifications of the schema", done.stderr)
                self.assertIn(part, done.stderr)

    def test_what_contradicts_itself_is_refused_with_a_way_out(self):
        for values, part in self.CONTRADICTORY:
            with self.subTest(values=values):
                done = template(values)
                self.assertNotEqual(done.returncode, 0)
                self.assertNotIn("schema", done.stderr)
                self.assertIn(part, done.stderr)

    def test_one_node_needs_no_redis(self):
        done = template({"redis": {"enabled": False}, "replicaCount": 1})
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_every_value_is_in_the_schema(self):
        schema = json.loads((CHART / "values.schema.json").read_text())

        def known(value, part, path):
            if not isinstance(value, dict) or "properties" not in part:
                return
            self.assertIs(part["additionalProperties"], False, path)
            for key, inner in value.items():
                self.assertIn(key, part["properties"], path)
                known(inner, part["properties"][key], f"{path}.{key}")
            # An empty one is filled by who knows its keys.
            if value:
                self.assertLessEqual(set(part["properties"]) - {"global", "claims"}, set(value), path)

        for key, value in yaml.safe_load((CHART / "values.yaml").read_text()).items():
            self.assertIn(key, schema["properties"])
            if key != "settings":
                known(value, schema["properties"][key], key)

    def test_settings_are_those_of_the_server(self):
        documented = dict(keys(tomllib.loads((ROOT / "config" / "default.toml").read_text())))
        schema = json.loads((CHART / "values.schema.json").read_text())
        given = dict(leaves(schema["properties"]["settings"]))
        ours = {k for k in documented if k in OURS | SECRET or k.removesuffix("_file") in SECRET}
        self.assertEqual(set(given), set(documented) - ours)
        types = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
        for key, part in given.items():
            if "enum" in part:
                self.assertIn(documented[key], part["enum"], key)
            else:
                self.assertEqual(part["type"], types[type(documented[key])], key)


class Readme(unittest.TestCase):
    def test_it_is_what_values_yaml_says(self):
        path = CHART / "README.md"
        text = path.read_text()
        start, end = "<!-- values: begin -->\n", "<!-- values: end -->"
        before, rest = text.split(start)
        _, after = rest.split(end)
        made = f"{before}{start}{table((CHART / 'values.yaml').read_text())}{end}{after}"
        if os.environ.get("UPDATE_DOCS"):
            path.write_text(made)
        self.assertEqual(path.read_text(), made, "UPDATE_DOCS=1 tests/helm/run writes it")

    def test_every_value_says_what_it_is(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        described = {path for path, _, _ in described_values((CHART / "values.yaml").read_text())}

        def check(value, path):
            if path in described:
                return
            self.assertTrue(isinstance(value, dict) and value, f"{path} has no comment that starts with --")
            for key, inner in value.items():
                check(inner, f"{path}.{key}" if path else key)

        for key, value in values.items():
            check(value, key)


def described_values(text):
    """(path, default, description) of each value whose comment starts with `--`."""
    values = yaml.safe_load(text)
    path, comment = [], []
    for line in text.splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        bare = line.strip()
        if bare.startswith("# -- "):
            comment = [bare[5:]]
        elif bare.startswith("#") and comment:
            comment.append(bare[1:].strip())
        elif match := re.match(r"([A-Za-z_]+):", bare):
            path = [*path[:indent], match[1]]
            if comment:
                value = values
                for key in path:
                    value = value[key]
                yield ".".join(path), value, " ".join(comment)
            comment = []
        elif not bare:
            comment = []


def table(text):
    lines = ["| value | default | meaning |\n", "|---|---|---|\n"]
    for path, value, meaning in described_values(text):
        default = json.dumps(value, ensure_ascii=False).replace("|", "\\|")
        lines.append(f"| `{path}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |\n")
    return "".join(lines)


if __name__ == "__main__":
    unittest.main()
