"""What the chart renders: taken by Kubernetes, and as it has to be."""

import base64
import copy
import json
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

from rendered import CHART, HELM, MATRIX, PROGRAM, ROOT, nodes, objects, one, pod_specs, run, template

# The oldest that the chart takes, and the newest that the schemas know.
KUBES = ("1.30", "1.33", "1.37")
CUSTOM = ("HTTPRoute", "ServiceMonitor", "PrometheusRule")
EVERYTHING = [("values.yaml", name, values, ()) for name, values in MATRIX.items()] + [
    ("values-production.yaml", "as it is", None, ("values-production.yaml",)),
    ("values-production.yaml", "route", MATRIX["route"], ("values-production.yaml",)),
]


def custom_faults(found):
    """What is wrong with objects of kinds that are not Kubernetes' own."""
    answer = subprocess.run(
        ["node", str(Path(__file__).with_name("custom_kinds.js"))],
        input=json.dumps(found), capture_output=True, text=True, check=True, timeout=60,
    )
    return json.loads(answer.stdout)


def seconds(text):
    return int(text.removesuffix("s"))


class Taken(unittest.TestCase):
    def test_lint_finds_nothing(self):
        for files in ([], ["--values", str(CHART / "values-production.yaml")]):
            done = run([HELM, "lint", "--strict", str(CHART), *files])
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_kubernetes_takes_everything(self):
        for kube in KUBES:
            for file, name, values, files in EVERYTHING:
                for o in objects(values, files, kube=f"{kube}.0"):
                    if o["kind"] in CUSTOM:
                        continue
                    with self.subTest(kube=kube, file=file, values=name, kind=o["kind"]):
                        kubernetes_validate.validate(o, kube, strict=True)

    def test_the_custom_kinds_are_right_too(self):
        found = [o for _, _, values, files in EVERYTHING for o in objects(values, files) if o["kind"] in CUSTOM]
        self.assertEqual({o["kind"] for o in found}, set(CUSTOM))
        self.assertEqual(custom_faults(found), [None] * len(found))
        # The validator itself notices.
        wrong = copy.deepcopy([next(o for o in found if o["kind"] == kind) for kind in CUSTOM])
        wrong[0]["spec"]["rules"][0]["backendRefs"][0]["weight"] = "many"
        wrong[1]["spec"]["endpoints"] = "all"
        wrong[2]["spec"]["groups"][0]["rules"] = {}
        self.assertNotIn(None, custom_faults(wrong))

    def test_an_older_kubernetes_is_refused(self):
        done = template(kube="1.29.0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("kubeVersion", done.stderr)

    def test_names_are_names_and_belong_to_one_release(self):
        for _, name, values, files in EVERYTHING:
            found = objects(values, files)
            named = [(o["kind"], o["metadata"]["name"]) for o in found]
            self.assertEqual(len(named), len(set(named)), name)
            for o in found:
                with self.subTest(values=name, kind=o["kind"], name=o["metadata"]["name"]):
                    self.assertRegex(o["metadata"]["name"], r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
                    self.assertLessEqual(len(o["metadata"]["name"]), 63)
                    self.assertEqual(o["metadata"]["labels"]["app.kubernetes.io/instance"], "rt")
                    for value in o["metadata"]["labels"].values():
                        self.assertLessEqual(len(value), 63)
        other = {o["metadata"]["name"] for o in objects({}, release="canary")}
        self.assertFalse(other & {o["metadata"]["name"] for o in objects({})})


class Nodes(unittest.TestCase):
    def test_probes_look_at_the_admin_listener(self):
        for _, name, values, files in EVERYTHING:
            container = nodes(objects(values, files))["spec"]["template"]["spec"]["containers"][0]
            with self.subTest(values=name):
                ports = {port["name"]: port["containerPort"] for port in container["ports"]}
                self.assertEqual(ports, {"http": 8080, "admin": 9464})
                wanted = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
                for probe, path in wanted.items():
                    self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "admin"})
                # A node that is slow for a moment loses traffic long before it is restarted.
                ready, live = container["readinessProbe"], container["livenessProbe"]
                self.assertLess(
                    ready["periodSeconds"] * ready["failureThreshold"], live["periodSeconds"] * live["failureThreshold"]
                )
                # A store that is away at the start is waited for, and migrations may take their time.
                start = container["startupProbe"]
                self.assertGreaterEqual(start["periodSeconds"] * start["failureThreshold"], 60)

    def test_the_grace_period_covers_sleep_and_drain(self):
        for settings, drain, wanted in [
            ({}, {}, 5 + 25 + 5),
            ({"server": {"shutdown_s": 90}}, {}, 5 + 90 + 5),
            ({"server": {"shutdown_s": 90}}, {"preStopSeconds": 20, "marginSeconds": 10}, 120),
            ({}, {"preStopSeconds": 0}, 30),
        ]:
            found = objects({"settings": settings, "drain": drain})
            spec = nodes(found)["spec"]["template"]["spec"]
            self.assertEqual(spec["terminationGracePeriodSeconds"], wanted)
            # What the server is told is what was reckoned with.
            told = one(found, "ConfigMap", "rt-roundtable")["data"].get("ROUNDTABLE__SERVER__SHUTDOWN_S", "25")
            sleep = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            self.assertEqual(sleep, drain.get("preStopSeconds", 5))
            self.assertGreater(spec["terminationGracePeriodSeconds"], int(told) + sleep)

    def test_an_upgrade_takes_nothing_away(self):
        spec = nodes(objects({}))["spec"]
        self.assertEqual(spec["strategy"], {
            "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}
        })
        self.assertGreater(spec["minReadySeconds"], 0)
        # What a restart of the pods needs is not lost: other settings, other pods.
        before = spec["template"]["metadata"]["annotations"]["checksum/settings"]
        after = nodes(objects({"settings": {"limits": {"inflight": 65}}}))["spec"]["template"]["metadata"]["annotations"]
        self.assertNotEqual(before, after["checksum/settings"])

    def test_a_budget_where_there_are_several(self):
        for values, there in [
            ({"replicaCount": 1}, False), ({"replicaCount": 2}, True), (MATRIX["scaled"], True),
            ({"replicaCount": 1, "autoscaling": {"enabled": True}}, True), ({"podDisruptionBudget": {"enabled": False}}, False),
        ]:
            found = objects(values)
            budgets = [o for o in found if o["kind"] == "PodDisruptionBudget"]
            self.assertEqual(bool(budgets), there, values)
            for budget in budgets:
                wanted = nodes(found)["spec"]["selector"]
                self.assertEqual(budget["spec"]["selector"], wanted)
                self.assertNotIn(budget["spec"]["maxUnavailable"], (0, "0%"))

    def test_the_scaler_owns_the_number_of_nodes(self):
        found = objects(MATRIX["scaled"])
        self.assertNotIn("replicas", nodes(found)["spec"])
        self.assertEqual(nodes(objects({"replicaCount": 5}))["spec"]["replicas"], 5)
        spec = one(found, "HorizontalPodAutoscaler")["spec"]
        self.assertEqual(spec["scaleTargetRef"]["name"], nodes(found)["metadata"]["name"])
        kinds = {m["type"]: m for m in spec["metrics"]}
        self.assertEqual(set(kinds), {"Resource", "Pods"})
        self.assertEqual(kinds["Pods"]["pods"]["metric"]["name"], "roundtable_sessions")
        self.assertEqual(kinds["Pods"]["pods"]["target"], {"type": "AverageValue", "averageValue": "20000"})
        down = spec["behavior"]["scaleDown"]
        self.assertEqual([policy["value"] for policy in down["policies"]], [1])
        # One node has gone, and its clients are back, before the next one goes.
        self.assertGreater(down["policies"][0]["periodSeconds"],
                           nodes(found)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
        alone = one(objects(MATRIX["scaled by sessions alone"]), "HorizontalPodAutoscaler")["spec"]["metrics"]
        self.assertEqual([m["type"] for m in alone], ["Pods"])

    def test_they_are_spread_over_hosts_and_zones(self):
        spec = nodes(objects({}))["spec"]
        spread = spec["template"]["spec"]["topologySpreadConstraints"]
        self.assertEqual([c["topologyKey"] for c in spread], ["kubernetes.io/hostname", "topology.kubernetes.io/zone"])
        for constraint in spread:
            self.assertEqual(constraint["labelSelector"], spec["selector"])

    def test_services_find_them_and_nobody_else(self):
        for _, name, values, files in EVERYTHING:
            found = objects(values, files)
            for service in [o for o in found if o["kind"] == "Service"]:
                selector = service["spec"]["selector"]
                component = selector["app.kubernetes.io/component"]
                picked = [
                    o for o in found if o["kind"] in ("Deployment", "StatefulSet", "Job")
                    and selector.items() <= o["spec"]["template"]["metadata"]["labels"].items()
                ]
                with self.subTest(values=name, service=service["metadata"]["name"]):
                    self.assertEqual(len(picked), 1)
                    ports = {p["name"] for c in picked[0]["spec"]["template"]["spec"]["containers"] for p in c["ports"]}
                    self.assertLessEqual({p["targetPort"] for p in service["spec"]["ports"]}, ports)
                    if component == "node":
                        self.assertEqual(selector, nodes(found)["spec"]["selector"]["matchLabels"])

    def test_the_admin_listener_stays_inside(self):
        for _, name, values, files in EVERYTHING:
            found = objects(values, files)
            for service in [o for o in found if o["kind"] == "Service"]:
                targets = {p["targetPort"] for p in service["spec"]["ports"]}
                if "admin" in targets:
                    self.assertEqual((service["spec"]["type"], service["spec"]["clusterIP"]), ("ClusterIP", "None"), name)
                    self.assertTrue(service["spec"]["publishNotReadyAddresses"])
                    admin = service["metadata"]["name"]
            routed = json.dumps([o for o in found if o["kind"] in ("Ingress", "HTTPRoute")])
            self.assertNotIn(f'"{admin}"', routed)


class Hardened(unittest.TestCase):
    def test_every_pod_keeps_to_the_restricted_standard(self):
        for _, name, values, files in EVERYTHING:
            for pod, _, spec in pod_specs(objects(values, files)):
                with self.subTest(values=name, pod=pod):
                    self.assertIs(spec["automountServiceAccountToken"], False)
                    for field in ("hostNetwork", "hostPID", "hostIPC"):
                        self.assertNotIn(field, spec)
                    security = spec["securityContext"]
                    self.assertIs(security["runAsNonRoot"], True)
                    self.assertGreater(security["runAsUser"], 0)
                    self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
                    for container in spec["containers"] + spec.get("initContainers", []):
                        self.assertEqual(container["securityContext"], {
                            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        })
                        self.assertIn("memory", container["resources"]["limits"])
                        self.assertTrue(all("hostPort" not in p for p in container.get("ports", [])))

    def test_secrets_stand_in_secrets_alone(self):
        for _, name, values, files in EVERYTHING:
            found = objects(values, files)
            secret_texts = []
            for o in found:
                if o["kind"] == "Secret":
                    secret_texts += [base64.b64decode(v).decode() for v in o["data"].values()]
            rest = json.dumps([o for o in found if o["kind"] != "Secret"])
            for text in secret_texts:
                for line in text.splitlines():
                    if len(line) > 12 and not line.startswith(("appendonly", "maxmemory")):
                        self.assertNotIn(line, rest, name)
            for pod, _, spec in pod_specs(found):
                for container in spec["containers"]:
                    for variable in container.get("env", []):
                        with self.subTest(values=name, pod=pod, variable=variable["name"]):
                            if "valueFrom" in variable:
                                self.assertEqual(variable["valueFrom"], {"fieldRef": {"fieldPath": "metadata.name"}})
                                continue
                            # Files, not values: the environment is shown by too many tools.
                            self.assertIn("value", variable)
                            if re.search("SECRET|PASSWORD|URL", variable["name"]):
                                self.assertTrue(variable["name"].endswith("_FILE"), variable)
                                path = variable["value"]
                                self.assertTrue(self.mounted(spec, container, path), path)

    def mounted(self, spec, container, path):
        """Whether a secret's key is mounted at that path."""
        for mount in container["volumeMounts"]:
            if not path.startswith(mount["mountPath"] + "/"):
                continue
            volume = next(v for v in spec["volumes"] if v["name"] == mount["name"])
            sources = [s["secret"] for s in volume["projected"]["sources"]] if "projected" in volume else [volume["secret"]]
            return mount["readOnly"] and any(
                item["path"] == path.removeprefix(mount["mountPath"] + "/") for s in sources for item in s["items"]
            )
        return False

    def test_what_is_generated_fits_together(self):
        found = objects({"secrets": {"jwtSecret": {"generate": True}}})
        secret = one(found, "Secret")
        data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        self.assertEqual(
            data["store-url"],
            f"postgres://roundtable:{data['postgresql-password']}@rt-roundtable-postgresql:5432/roundtable",
        )
        self.assertEqual(data["redis-url"], f"redis://:{data['redis-password']}@rt-roundtable-redis:6379")
        self.assertIn(f"requirepass {data['redis-password']}\n", data["redis.conf"])
        self.assertGreaterEqual(len(data["jwt-secret"]), 64)
        self.assertGreaterEqual(len(data["postgresql-password"]), 32)
        # The volume outlives the release, and so must its password.
        self.assertEqual(secret["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
        self.assertFalse([o for o in objects(None, ("values-production.yaml",)) if o["kind"] == "Secret"])

    def test_whoever_reaches_the_store_has_the_files_that_its_address_names(self):
        values = {**MATRIX["placed"], "backup": {"enabled": True, "remote": "offsite:chat"}}
        pods = {}
        for found in objects(values):
            spec = found.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec")
            if spec and any("STORE__URL_FILE" in env["name"] for env in spec["containers"][0].get("env", [])):
                pods[found["kind"]] = spec
        self.assertEqual(set(pods), {"Deployment", "Job", "CronJob"})
        for kind, spec in pods.items():
            with self.subTest(kind=kind):
                self.assertIn(values["extraVolumes"][0], spec["volumes"])
                self.assertIn(values["extraVolumeMounts"][0], spec["containers"][0]["volumeMounts"])

    def test_numbers_arrive_as_they_are_given(self):
        settings = {"traces": {"otlp_url": "http://collector:4318/v1/traces", "sample": 0.05}, "server": {"shutdown_s": 30}}
        data = {}
        for found in objects({"settings": settings}):
            if found["kind"] == "ConfigMap":
                data.update(found["data"])
        self.assertEqual((data["ROUNDTABLE__TRACES__SAMPLE"], data["ROUNDTABLE__SERVER__SHUTDOWN_S"]), ("0.05", "30"))

    def test_policies_let_in_who_must_come_and_nobody_else(self):
        found = objects(MATRIX["fenced in"])
        policy = one(found, "NetworkPolicy", "rt-roundtable")["spec"]
        self.assertEqual(policy["podSelector"], nodes(found)["spec"]["selector"])
        self.assertEqual(policy["policyTypes"], ["Ingress", "Egress"])
        by_port = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["ingress"]}
        given = MATRIX["fenced in"]["networkPolicy"]
        smoke = next(o for o in found if o["kind"] == "Pod")["metadata"]["labels"]
        *clients, last = by_port["http"]
        self.assertEqual((clients, by_port["admin"]), (given["clientsFrom"], given["adminFrom"]))
        self.assertLessEqual(last["podSelector"]["matchLabels"].items(), smoke.items(), "helm test comes in, too")
        self.assertEqual(last["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "smoke")
        out = {p["port"] for rule in policy["egress"] for p in rule.get("ports", [])}
        self.assertEqual(out, {53, 5432, 6379, 26379, 443})
        self.assertIn(given["extraEgress"][0], policy["egress"])
        # With nobody named, the admin port is open to nobody, and the public one to anybody.
        bare = one(objects({"networkPolicy": {"enabled": True}}), "NetworkPolicy", "rt-roundtable")["spec"]["ingress"]
        self.assertEqual(bare, [{"ports": [{"port": "http"}]}])
        for name in ("postgresql", "redis"):
            spec = one(found, "NetworkPolicy", f"rt-roundtable-{name}")["spec"]
            self.assertEqual(spec["egress"], [])
            peers = [list(peer) for rule in spec["ingress"] for peer in rule["from"]]
            self.assertTrue(all(peer == ["podSelector"] for peer in peers))
        self.assertTrue([o for o in objects(None, ("values-production.yaml",)) if o["kind"] == "NetworkPolicy"])

    def test_only_nodes_that_say_their_cost_may_ask_kubernetes_for_anything(self):
        for _, name, values, files in EVERYTHING:
            found = objects(values, files)
            wanted = bool(((values or {}).get("podDeletionCost") or {}).get("enabled"))
            roles = [o for o in found if o["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")]
            with self.subTest(values=name):
                self.assertEqual([o["kind"] for o in roles], ["Role", "RoleBinding"] if wanted else [])
                for pod, _, spec in pod_specs(found):
                    tokens = [
                        (v["name"], s["serviceAccountToken"]) for v in spec.get("volumes", [])
                        for s in v.get("projected", {}).get("sources", []) if "serviceAccountToken" in s
                    ]
                    node = pod == nodes(found)["metadata"]["name"] and wanted
                    self.assertEqual(tokens, [("account", {"path": "token", "expirationSeconds": 3600})] if node else [])
        found = objects(MATRIX["emptiest first"])
        self.assertEqual(one(found, "Role")["rules"], [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}])
        binding = one(found, "RoleBinding")
        self.assertEqual(binding["roleRef"]["name"], one(found, "Role")["metadata"]["name"])
        spec = nodes(found)["spec"]["template"]["spec"]
        self.assertEqual(binding["subjects"], [
            {"kind": "ServiceAccount", "name": spec["serviceAccountName"], "namespace": "chat"}
        ])
        container = spec["containers"][0]
        env = {v["name"]: v for v in container["env"]}
        self.assertEqual(env["ROUNDTABLE__KUBERNETES__POD_DELETION_COST"]["value"], "true")
        self.assertEqual(env["ROUNDTABLE__KUBERNETES__POD_NAME"]["valueFrom"], {"fieldRef": {"fieldPath": "metadata.name"}})
        # What the server reads there: the folder is the one of its settings.
        folder = tomllib.loads((ROOT / "config" / "default.toml").read_text())["kubernetes"]["account_folder"]
        mount = next(m for m in container["volumeMounts"] if m["name"] == "account")
        self.assertEqual((mount["mountPath"], mount["readOnly"]), (folder, True))
        sources = next(v for v in spec["volumes"] if v["name"] == "account")["projected"]["sources"]
        paths = [
            source["serviceAccountToken"]["path"] if "serviceAccountToken" in source
            else next(iter(source.values()))["items"][0]["path"] for source in sources
        ]
        self.assertEqual(sorted(paths), ["ca.crt", "namespace", "token"])
        out = lambda o: {p["port"] for rule in one(o, "NetworkPolicy", "rt-roundtable")["spec"]["egress"] for p in rule["ports"]}
        self.assertEqual(out(found), {53, 5432, 6379, 26379, 443, 6443})
        self.assertEqual(out(objects({"networkPolicy": {"enabled": True}})), {53, 5432, 6379, 26379, 443})

    def test_the_image_is_pinned_where_a_digest_is_given(self):
        digest = "sha256:" + "0" * 64
        for pod, _, spec in pod_specs(objects({
            "image": {"digest": digest, "tag": "ignored"}, "postgresql": {"image": {"repository": "pg", "digest": digest}},
            "redis": {"image": {"repository": "r", "digest": digest}},
        })):
            for container in spec["containers"]:
                self.assertTrue(container["image"].endswith("@" + digest), (pod, container["image"]))


class Around(unittest.TestCase):
    def test_the_schema_is_brought_up_before_the_first_new_node(self):
        for values, files, hooks in [
            (None, ("values-production.yaml",), "pre-install,pre-upgrade"), ({}, (), "pre-upgrade"),
        ]:
            found = objects(values, files)
            job = one(found, "Job")
            self.assertEqual(job["metadata"]["annotations"]["helm.sh/hook"], hooks)
            container = job["spec"]["template"]["spec"]["containers"][0]
            self.assertEqual(container["args"], ["migrate"])
            # A store that was found damaged is not found to need nothing by the next try.
            rule = job["spec"]["podFailurePolicy"]["rules"][0]
            self.assertEqual((rule["action"], rule["onExitCodes"]["values"]), ("FailJob", [4]))
            self.assertEqual(rule["onExitCodes"]["containerName"], container["name"])
            self.assertEqual(container["image"], nodes(found)["spec"]["template"]["spec"]["containers"][0]["image"])
            # It gets the one secret that it needs; and no node's label, or it would be served to clients.
            self.assertEqual([v["name"] for v in container["env"]], ["ROUNDTABLE__STORE__URL_FILE"])
            labels = job["spec"]["template"]["metadata"]["labels"]
            self.assertNotEqual(labels["app.kubernetes.io/component"], "node")
        self.assertFalse([o for o in objects(MATRIX["bare"]) if o["kind"] == "Job"])
        job = one(objects({"migrations": {"check": False}}), "Job")
        self.assertEqual(job["spec"]["template"]["spec"]["containers"][0]["args"], ["migrate", "--no-check"])

    def test_backups_are_made_one_at_a_time_and_know_their_secrets(self):
        job = one(objects(MATRIX["backups"]), "CronJob")["spec"]
        self.assertEqual((job["schedule"], job["concurrencyPolicy"]), ("*/10 * * * *", "Forbid"))
        pod = job["jobTemplate"]["spec"]["template"]
        self.assertEqual(pod["metadata"]["labels"]["app.kubernetes.io/component"], "backup")
        container = pod["spec"]["containers"][0]
        env = {v["name"]: v["value"] for v in container["env"]}
        self.assertEqual(env, {
            "ROUNDTABLE__STORE__URL_FILE": "/run/secrets/roundtable/store-url", "BACKUP_FOLDER": "/backups",
            "BACKUP_KEEP_ALL_HOURS": "48", "BACKUP_KEEP_DAYS": "30", "BACKUP_REMOTE": "offsite:chat",
            "BACKUP_PASSPHRASE_FILE": "/run/secrets/backup/passphrase", "RCLONE_CONFIG": "/run/secrets/backup/rclone.conf",
        })
        keys = next(v for v in pod["spec"]["volumes"] if v["name"] == "keys")["projected"]["sources"]
        self.assertEqual([k["secret"]["items"] for k in keys], [
            [{"key": "passphrase", "path": "passphrase"}], [{"key": "conf", "path": "rclone.conf"}],
        ])
        # Every variable of the chart is one of the script's.
        script = (ROOT / "docker" / "backup" / "backups").read_text()
        for name in env:
            if name.startswith("BACKUP_"):
                self.assertIn(f"  {name} ", script)
        kept = one(objects(MATRIX["backups on a volume"]), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
        self.assertIn({"name": "backups", "persistentVolumeClaim": {"claimName": "backups"}}, kept)
        self.assertFalse([o for o in objects({}) if o["kind"] == "CronJob"])

    def test_helm_test_goes_through_the_service(self):
        found = objects({"service": {"port": 81}})
        pod = one(found, "Pod")
        self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
        self.assertEqual(pod["spec"]["containers"][0]["args"], ["smoke", "http://rt-roundtable:81"])
        self.assertFalse([o for o in objects({"tls": {"existingSecret": "x"}}) if o["kind"] == "Pod"])
        args = one(objects(MATRIX["tls with a test"]), "Pod")["spec"]["containers"][0]["args"]
        self.assertEqual(args, ["smoke", "https://chat.example.org"])

    def test_routes_lead_to_the_public_port(self):
        found = objects(MATRIX["ingress"])
        for rule in one(found, "Ingress")["spec"]["rules"]:
            backend = rule["http"]["paths"][0]["backend"]["service"]
            self.assertEqual(backend, {"name": "rt-roundtable", "port": {"number": 80}})
        refs = one(objects(MATRIX["route"]), "HTTPRoute")["spec"]["rules"][0]["backendRefs"]
        self.assertEqual([(r["name"], r["weight"]) for r in refs], [("rt-roundtable", 80), ("rt-canary-roundtable", 20)])
        alone = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}}
        refs = one(objects(alone), "HTTPRoute")["spec"]["rules"][0]["backendRefs"]
        self.assertEqual([(r["name"], r["weight"]) for r in refs], [("rt-roundtable", 100)])

    def test_tls_in_the_nodes(self):
        found = objects(MATRIX["load balancer"])
        container = nodes(found)["spec"]["template"]["spec"]["containers"][0]
        env = {v["name"]: v["value"] for v in container["env"]}
        self.assertEqual(env["ROUNDTABLE__SERVER__TLS__CERT_FILE"], "/run/secrets/tls/tls.crt")
        self.assertEqual(one(found, "Service", "rt-roundtable")["spec"]["ports"][0]["name"], "https")

    def test_prometheus_finds_the_admin_service(self):
        found = objects(MATRIX["watched"])
        monitor = one(found, "ServiceMonitor")["spec"]
        services = [
            s for s in found if s["kind"] == "Service"
            and monitor["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()
        ]
        self.assertEqual([s["metadata"]["name"] for s in services], ["rt-roundtable-admin"])
        self.assertEqual(monitor["endpoints"][0]["port"], services[0]["spec"]["ports"][0]["name"])
        # Alerts go by this job.
        self.assertEqual(services[0]["metadata"]["labels"][monitor["jobLabel"]], "roundtable")

    def test_alerts_are_those_of_the_files(self):
        files = [yaml.safe_load(file.read_text()) for file in sorted((CHART / "alerts").glob("*.yaml"))]
        all_rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
        groups = one(objects(MATRIX["watched"]), "PrometheusRule")["spec"]["groups"]
        rendered = [rule for group in groups for rule in group["rules"]]
        for rule in all_rules:
            if "alert" in rule:
                rule["annotations"]["runbook_url"] = "https://git.example.org/" + rule["annotations"]["runbook_url"]
        self.assertEqual(rendered, [rule for rule in all_rules if rule.get("alert") != "RoundtableGuessing"])
        self.assertEqual(len(rendered), len(all_rules) - 1)

    def test_dashboards_are_those_of_the_files(self):
        boards = {file.name: file.read_text() for file in (CHART / "dashboards").glob("*.json")}
        found = [o for o in objects(MATRIX["watched"]) if o["metadata"]["labels"].get("grafana_dashboard") == "1"]
        rendered = {name: text for o in found for name, text in o["data"].items()}
        self.assertEqual({n: json.loads(t) for n, t in rendered.items()}, {n: json.loads(t) for n, t in boards.items()})


class Notes(unittest.TestCase):
    """helm shows them after an installation; here they are rendered as an object's text, which needs no cluster."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.chart = Path(cls.folder.name, "roundtable")
        shutil.copytree(CHART, cls.chart)
        shutil.copy(CHART / "templates" / "NOTES.txt", cls.chart / "notes.txt")
        (cls.chart / "templates" / "zz-notes.yaml").write_text(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: notes\ndata:\n"
            '  text: {{ tpl (.Files.Get "notes.txt") . | toJson }}\n'
        )

    def notes(self, values):
        file = Path(self.folder.name, "values.json")
        file.write_text(json.dumps(values or {}))
        done = run([HELM, "template", "rt", str(self.chart), "--namespace", "chat", "--values", str(file)])
        self.assertEqual(done.returncode, 0, done.stderr)
        return one([o for o in yaml.safe_load_all(done.stdout) if o], "ConfigMap", "notes")["data"]["text"]

    def test_what_they_name_is_there(self):
        for name, values in MATRIX.items():
            text = self.notes(values)
            found = objects(values)
            kinds = {"service": "Service", "deployment": "Deployment", "secret": "Secret"}
            named = re.findall(r"\b(?:get |port-forward |status )(service|deployment|secret)[/ ]([-a-z0-9]+)", text)
            with self.subTest(values=name):
                self.assertTrue(named)
                for kind, wanted in named:
                    one(found, kinds[kind], wanted)
                self.assertIn("helm test rt --namespace chat", text)
                self.assertNotIn("%!", text)
                self.assertNotIn("<no value>", text)

    def test_they_lead_to_where_it_is(self):
        self.assertIn("https://chat.example.org/", self.notes(MATRIX["ingress"]))
        self.assertIn("https://chat.example.org/", self.notes(MATRIX["route"]))
        self.assertIn("port-forward service/rt-roundtable 8080:81", self.notes({"service": {"port": 81}}))
        self.assertIn(".data.jwt-secret", self.notes(MATRIX["all secrets"]))
        self.assertIn("Not for production", self.notes({}))
        self.assertNotIn("Not for production", self.notes(MATRIX["own services"]))
        self.assertNotIn("Attachments are off", self.notes(MATRIX["settings"]))


class Settings(unittest.TestCase):
    """The built program reads what the chart renders."""

    def check(self, values, files=()):
        found = objects(values, files)
        with tempfile.TemporaryDirectory() as folder:
            env = dict(one(found, "ConfigMap", nodes(found)["metadata"]["name"])["data"])
            spec = nodes(found)["spec"]["template"]["spec"]
            for variable in spec["containers"][0]["env"]:
                name, value = variable["name"], variable.get("value", "rt-7")
                if name.endswith("_FILE"):
                    if "TLS" in name:
                        continue
                    text = {
                        "ROUNDTABLE__STORE__URL_FILE": "postgres://u:p@h/d",
                        "ROUNDTABLE__CLUSTER__REDIS_URL_FILE": "redis://:p@h:6379",
                        "ROUNDTABLE__ATTACHMENTS__URL_FILE": "s3://key:secret@files?region=eu-1",
                        "ROUNDTABLE__ENCRYPTION__KEYS_FILE": "k1:" + base64.b64encode(bytes(32)).decode(),
                        "ROUNDTABLE__SENTRY__DSN_FILE": "https://key@errors.example.org/1",
                        "ROUNDTABLE__TRACES__HEADERS_FILE": "authorization=Bearer xyzzy",
                    }.get(name, "x" * 64)
                    file = Path(folder, Path(value).name)
                    file.write_text(text)
                    value = str(file)
                env[name] = value
            done = run([PROGRAM, "check-config"], env=env, cwd=folder)
            return done.returncode, done.stderr

    def test_the_program_takes_what_is_rendered(self):
        for _, name, values, files in EVERYTHING:
            with self.subTest(values=name):
                self.assertEqual(self.check(values, files), (0, ""))

    def test_large_numbers_and_lists_arrive_whole(self):
        data = one(objects(MATRIX["settings"]), "ConfigMap", "rt-roundtable")["data"]
        self.assertEqual(data["ROUNDTABLE__ATTACHMENTS__PER_USER_BYTES"], "1099511627776")
        self.assertEqual(data["ROUNDTABLE__LIMITS__REPLAY"], "1000000")
        self.assertEqual(data["ROUNDTABLE__SERVER__TRUSTED_PROXIES"], "10.0.0.0/8,192.168.0.1")
        self.assertEqual(data["ROUNDTABLE__SERVER__COMPRESSION"], "false")
        self.assertEqual(data["ROUNDTABLE__ATTACHMENTS__URL"], "s3://files/prefix?region=eu-1")

    def test_the_program_is_the_judge_of_values(self):
        status, line = self.check({"settings": {"log": {"level": "loud"}}})
        self.assertEqual(status, 2)
        self.assertIn("log.level", line)


if __name__ == "__main__":
    unittest.main()
