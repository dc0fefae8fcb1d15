"""helm/deploy: what it asks of helm and of the route, in which order, and how it goes back. What it gives to `helm upgrade` is
rendered by the real helm; releases and the route are a stand-in's."""

import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

from rendered import CHART, HELM, MATRIX, ROOT, objects, one
from test_canary import Others

# Keeps releases in helm.json and the route in route.json beside it, and a line for each call.
STAND_IN = r'''#!{python}
import json, subprocess, sys
from pathlib import Path

here = Path(__file__).parent
name = Path(__file__).name
words = sys.argv[1:]
assert words[:2] == ["--namespace", "chat"], words
words = words[2:]
with (here / "calls").open("a") as calls:
    print(*" ".join([name, *words]).split(), file=calls)
fails = (here / "fails").read_text().split("\n")
if any(fail and " ".join([name, *words]).startswith(fail) for fail in fails):
    sys.exit(1)
if name == "helm":
    state = json.loads((here / "helm.json").read_text())
    if words[0] == "status":
        if words[1] not in state:
            sys.exit(1)
        print(json.dumps({{"version": state[words[1]]}}))
    elif words[0] == "history":
        print((here / "history.json").read_text())
    elif words[:2] == ["get", "values"]:
        print((here / "values.json").read_text())
    elif words[0] == "upgrade":
        release, chart, rest = words[2], words[3], words[4:]
        rest = [word for at, word in enumerate(rest) if word != "--wait" and word != "--timeout" and rest[at - 1] != "--timeout"]
        done = subprocess.run(["{helm}", "template", release, chart, "--kube-version", "1.32.0", *rest], capture_output=True, text=True)
        (here / f"{{release}}.yaml").write_text(done.stdout)
        sys.stderr.write(done.stderr)
        if done.returncode:
            sys.exit(1)
        state[release] = state.get(release, 0) + 1
    elif words[0] == "rollback":
        state[words[1]] += 1
    elif words[0] == "uninstall":
        del state[words[1]]
    (here / "helm.json").write_text(json.dumps(state))
elif words[:2] == ["get", "service"]:
    print(80, end="")
elif words[:2] == ["get", "httproute"]:
    backends = json.loads((here / "route.json").read_text())["spec"]["rules"][0]["backendRefs"]
    print(*[backend["name"] for backend in backends[1:2]], end="")
else:
    assert words[:2] == ["patch", "httproute"], words
    route = json.loads((here / "route.json").read_text())
    for step in json.loads(words[-1]):
        *way, last = [int(key) if key.isdigit() else key for key in step["path"].strip("/").split("/")]
        place = route
        for key in way:
            place = place[key]
        if step["op"] == "test" and (isinstance(last, int) and last >= len(place) or place[last] != step["value"]):
            sys.exit(1)
        elif step["op"] == "replace":
            place[last] = step["value"]
        elif step["op"] == "add":
            place.insert(last, step["value"])
        elif step["op"] == "remove":
            del place[last]
    (here / "route.json").write_text(json.dumps(route))
    with (here / "calls").open("a") as calls:
        print("shares", *[backend["weight"] for backend in route["spec"]["rules"][0]["backendRefs"]], file=calls)
'''


class Deploy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("helm", "kubectl"):
            (self.folder / name).write_text(STAND_IN.format(python=sys.executable, helm=HELM))
            (self.folder / name).chmod(0o755)
        self.values = copy.deepcopy(MATRIX["route"])
        self.values["httpRoute"].pop("canary", None)
        (self.folder / "values.yaml").write_text(yaml.safe_dump(self.values))
        self.live({})
        self.history()
        (self.folder / "route.json").write_text(json.dumps(one(objects(self.values, release="chat"), "HTTPRoute")))
        self.others = Others()
        self.addCleanup(self.others.close)

    def live(self, more):
        """What `helm get values --all` says of the stable release."""
        known = {"postgresql": {"enabled": False}, "redis": {"enabled": False}, "secrets": {"jwtSecret": {"generate": False}}}
        (self.folder / "values.json").write_text(json.dumps({**known, **more}))

    def history(self, *revisions):
        """(status, what it came of), from the first on."""
        found = [{"revision": at, "status": status, "description": of} for at, (status, of) in enumerate(revisions, 1)]
        (self.folder / "history.json").write_text(json.dumps(found))

    def deploy(self, action, *, releases, fails=(), **more):
        (self.folder / "helm.json").write_text(json.dumps(releases))
        (self.folder / "fails").write_text("\n".join(fails))
        (self.folder / "calls").write_text("")
        chart = [] if action == "back" else [str(CHART)]
        done = subprocess.run(
            [str(ROOT / "helm" / "deploy"), action, *chart],
            env={**os.environ, "HELM": str(self.folder / "helm"), "KUBECTL": str(self.folder / "kubectl"), "NAMESPACE": "chat",
                 "RELEASE": "chat", "VALUES": str(self.folder / "values.yaml"), "PROMETHEUS_URL": self.others.url, "STEPS": "5,100",
                 "HOLD": "2", "EVERY": "1", **more},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
        )
        self.said = done.stdout + done.stderr
        calls = (self.folder / "calls").read_text().splitlines()
        # What changes something, by its first words.
        self.changes = [" ".join(call.split()[:3]) for call in calls if not call.startswith(("helm status", "helm history", "helm get", "kubectl get", "kubectl patch"))]
        self.calls = calls
        return done.returncode

    def releases(self):
        return json.loads((self.folder / "helm.json").read_text())

    def backends(self):
        route = json.loads((self.folder / "route.json").read_text())
        return [backend["name"] for backend in route["spec"]["rules"][0]["backendRefs"]]

    def test_a_release_is_upgraded_and_tried(self):
        self.assertEqual(self.deploy("release", releases={"chat": 3}), 0, self.said)
        self.assertEqual(self.changes, ["helm upgrade --install", "helm test chat"])

    def test_the_first_one_is_installed(self):
        self.assertEqual(self.deploy("release", releases={}), 0, self.said)
        self.assertEqual(self.releases(), {"chat": 1})

    def test_one_that_does_not_work_goes_back_by_itself(self):
        for fail in ("helm upgrade", "helm test"):
            with self.subTest(fail=fail):
                self.assertEqual(self.deploy("release", releases={"chat": 3}, fails=[fail]), 2)
                self.assertEqual(self.changes[-1], "helm rollback chat")
                self.assertIn("back to revision 3", self.said)

    def test_a_canary_comes_beside_and_gets_its_shares(self):
        self.assertEqual(self.deploy("canary", releases={"chat": 3}), 0, self.said)
        self.assertEqual(self.changes, ["helm upgrade --install", "shares 100 0", "shares 95 5", "shares 0 100"])
        self.assertEqual(self.releases(), {"chat": 3, "chat-next": 1})
        self.assertEqual(self.backends(), ["chat-roundtable", "chat-next-roundtable"])
        kinds = {document["kind"] for document in yaml.safe_load_all((self.folder / "chat-next.yaml").read_text()) if document}
        self.assertIn("Deployment", kinds)
        self.assertFalse(kinds & {"HTTPRoute", "Ingress", "PrometheusRule", "CronJob"}, "the stable release has these")

    def test_a_canary_checks_tokens_with_the_same_secret(self):
        self.values.update(postgresql={"enabled": False}, redis={"enabled": False}, secrets={
            "storeUrl": {"existingSecret": "stores"}, "redisUrl": {"existingSecret": "stores"}, "jwtSecret": {"generate": True},
        })
        (self.folder / "values.yaml").write_text(yaml.safe_dump(self.values))
        self.live({"secrets": {"jwtSecret": {"generate": True}}})
        self.assertEqual(self.deploy("canary", releases={"chat": 3}), 0, self.said)
        found = [d for d in yaml.safe_load_all((self.folder / "chat-next.yaml").read_text()) if d]
        self.assertFalse([d for d in found if d["kind"] == "Secret"])
        node = next(d for d in found if d["kind"] == "Deployment")["spec"]["template"]["spec"]
        sources = next(volume for volume in node["volumes"] if volume["name"] == "secrets")["projected"]["sources"]
        jwt = {"secret": {"name": "chat-roundtable-generated", "items": [{"key": "jwt-secret", "path": "jwt-secret"}]}}
        self.assertIn(jwt, sources)

    def test_there_is_no_canary_with_a_store_of_its_own(self):
        for what in ("postgresql", "redis"):
            self.live({what: {"enabled": True}})
            self.assertEqual(self.deploy("canary", releases={"chat": 3}), 2)
            self.assertEqual(self.changes, [])
            self.assertIn("that both releases share", self.said)

    def test_a_canary_that_burns_goes(self):
        self.others.then = [(2, {"ALERTS": "1"})]
        self.assertEqual(self.deploy("canary", releases={"chat": 3}), 2)
        self.assertEqual(self.changes[-3:], ["shares 100 0", "shares 100", "helm uninstall chat-next"])
        self.assertEqual((self.releases(), self.backends()), ({"chat": 3}, ["chat-roundtable"]))

    def test_a_canary_that_does_not_come_up_gets_nothing(self):
        self.assertEqual(self.deploy("canary", releases={"chat": 3}, fails=["helm upgrade --install chat-next"]), 2)
        self.assertFalse([change for change in self.changes if "shares" in change])
        self.assertEqual(self.backends(), ["chat-roundtable"])

    def test_there_is_no_canary_of_nothing(self):
        self.assertEqual(self.deploy("canary", releases={}), 2)
        self.assertEqual(self.changes, [])

    def test_the_end_of_a_canary(self):
        self.assertEqual(self.deploy("canary", releases={"chat": 3}), 0, self.said)
        self.assertEqual(self.deploy("finish", releases=self.releases()), 0, self.said)
        # The route of the cluster stays as it was patched, whatever the upgrade's manifest says.
        self.assertEqual(
            self.changes, ["helm upgrade --install", "helm test chat", "shares 100 0", "shares 100", "helm uninstall chat-next"]
        )
        self.assertEqual((self.releases(), self.backends()), ({"chat": 4}, ["chat-roundtable"]))

    def test_a_canary_with_traffic_is_not_taken_away(self):
        for action in ("finish", "back"):
            with self.subTest(action=action):
                self.setUp()
                self.assertEqual(self.deploy("canary", releases={"chat": 3}), 0, self.said)
                self.assertEqual(self.deploy(action, releases=self.releases(), fails=["kubectl patch"]), 2)
                self.assertIn("chat-next", self.releases())
                self.assertEqual(self.backends(), ["chat-roundtable", "chat-next-roundtable"])

    def test_back_takes_the_canary_away_and_leaves_the_rest(self):
        self.assertEqual(self.deploy("canary", releases={"chat": 3}), 0, self.said)
        self.assertEqual(self.deploy("back", releases=self.releases()), 0, self.said)
        self.assertEqual(self.changes, ["shares 100 0", "shares 100", "helm uninstall chat-next"])
        self.assertEqual((self.releases(), self.backends()), ({"chat": 3}, ["chat-roundtable"]))

    def test_back_without_a_canary_is_what_ran_before(self):
        was, now = ("superseded", "Upgrade complete"), ("deployed", "Upgrade complete")
        for revisions, expected in [
            ([was, was, now], 2),
            # The third was tried and failed: what runs is the second.
            ([was, was, was, ("deployed", "Rollback to 2")], 1),
            ([was, was, ("superseded", "Rollback to 1"), was, ("deployed", "Rollback to 3")], None),
            # An upgrade that broke off.
            ([was, now, ("failed", "Upgrade \"chat\" failed")], 2),
            ([now], None),
        ]:
            with self.subTest(revisions=revisions):
                self.history(*revisions)
                status = self.deploy("back", releases={"chat": len(revisions)})
                rolled = [call.split()[3] for call in self.calls if call.startswith("helm rollback")]
                self.assertEqual((status, rolled), (2, []) if expected is None else (0, [str(expected)]), self.said)

    def test_what_is_missing_is_said_before_anything_is_done(self):
        for action, missing in [("release", "NAMESPACE"), ("release", "RELEASE"), ("finish", "VALUES"), ("canary", "PROMETHEUS_URL")]:
            with self.subTest(missing=missing):
                self.assertEqual(self.deploy(action, releases={"chat": 3}, **{missing: ""}), 2)
                self.assertEqual(self.changes, [])
                self.assertIn(missing, self.said)


if __name__ == "__main__":
    unittest.main()
