"""helm/canary, with the real kubectl: shares rise step by step, and go back when something burns."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import yaml

from rendered import MATRIX, ROOT, objects, one

GROUP = "gateway.networking.k8s.io"
PATH = f"/apis/{GROUP}/v1/namespaces/chat/httproutes/rt-roundtable"


class Others:
    """What the script talks to: the API of Kubernetes as far as one HTTPRoute goes, and that of Prometheus."""

    def __init__(self):
        self.route = one(objects(MATRIX["route"]), "HTTPRoute")
        self.route["metadata"]["namespace"] = "chat"
        self.shares = []
        self.refuse_patches = 0
        # From which question on Prometheus answers so: (query's part, value); None: not at all.
        self.answers = {"ALERTS": None, "refused": "0.001", "ready": "1"}
        self.asked = 0
        # How often Prometheus does not know the canary yet.
        self.unknown = 0
        self.then = []
        others = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                path = self.path.split("?")[0]
                version = {"groupVersion": f"{GROUP}/v1", "version": "v1"}
                known = {
                    "/api": {"kind": "APIVersions", "versions": ["v1"]},
                    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
                    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                        {"name": GROUP, "versions": [version], "preferredVersion": version}]},
                    f"/apis/{GROUP}/v1": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1",
                                          "resources": [{"name": "httproutes", "singularName": "httproute", "namespaced": True,
                                                         "kind": "HTTPRoute", "verbs": ["get", "patch"]}]},
                    PATH: others.route,
                }
                self.answer(200, known[path]) if path in known else self.answer(404, {"kind": "Status", "code": 404})

            def do_PATCH(self):
                patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if others.refuse_patches:
                    others.refuse_patches -= 1
                    return self.answer(500, {"kind": "Status", "status": "Failure", "message": "no", "code": 500})
                for step in patch:
                    keys = [int(k) if k.isdigit() else k for k in step["path"].strip("/").split("/")]
                    place = others.route
                    for key in keys[:-1]:
                        place = place[key]
                    if step["op"] == "test" and place[keys[-1]] != step["value"]:
                        return self.answer(422, {"kind": "Status", "status": "Failure", "message": "test", "code": 422})
                    if step["op"] == "replace":
                        place[keys[-1]] = step["value"]
                stable, canary = others.route["spec"]["rules"][0]["backendRefs"]
                others.shares.append((stable["weight"], canary["weight"]))
                return self.answer(200, others.route)

            def do_POST(self):
                query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
                if "ALERTS" in query:
                    others.asked += 1
                    if others.then and others.asked >= others.then[0][0]:
                        others.answers = {**others.answers, **others.then.pop(0)[1]}
                part = next(part for part in ("ALERTS", "refused", "ready") if part in query)
                value = others.answers[part]
                if value == "away":
                    return self.answer(503, {})
                if part == "ready" and others.unknown:
                    others.unknown -= 1
                    value = None
                others.last = query
                result = [] if value is None else [{"metric": {}, "value": [0, value]}]
                return self.answer(200, {"status": "success", "data": {"resultType": "vector", "result": result}})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Canary(unittest.TestCase):
    def setUp(self):
        self.others = Others()
        self.addCleanup(self.others.close)
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def start(self, *more, service="rt-canary-roundtable"):
        config = Path(self.folder.name, "kubeconfig")
        config.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": self.others.url}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}], "users": [{"name": "x", "user": {}}],
        }))
        return subprocess.Popen(
            [str(ROOT / "helm" / "canary"), "rt-roundtable", "--namespace", "chat", "--canary-service", service,
             "--prometheus", self.others.url, "--hold", "2", "--every", "1", "--appear", "2", *more],
            env={**os.environ, "KUBECONFIG": str(config), "HOME": self.folder.name},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def finish(self, process):
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def run_it(self, *more, **options):
        return self.finish(self.start(*more, **options))

    def test_shares_rise_to_the_last_step(self):
        status, out, err = self.run_it()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(self.others.shares, [(95, 5), (80, 20), (50, 50), (0, 100)])
        self.assertIn("nothing burns", out)

    def test_an_alert_takes_it_back(self):
        self.others.then = [(4, {"ALERTS": "2"})]
        status, out, _ = self.run_it()
        self.assertEqual(status, 1)
        self.assertEqual(self.others.shares[-1], (100, 0))
        self.assertLess(len(self.others.shares), 5)
        self.assertIn("2 alerts page", out)

    def test_failing_requests_of_the_canary_take_it_back(self):
        self.others.then = [(3, {"refused": "0.02"})]
        status, out, _ = self.run_it("--canary-release", "next")
        self.assertEqual((status, self.others.shares[-1]), (1, (100, 0)))
        self.assertIn("0.02 of the canary's requests fail", out)
        self.assertIn('app_kubernetes_io_instance="next"', self.others.last)

    def test_a_canary_that_dies_is_taken_back(self):
        self.others.then = [(3, {"ready": None})]
        status, out, _ = self.run_it()
        self.assertEqual((status, self.others.shares[-1]), (1, (100, 0)))
        self.assertIn("no node of the canary is ready", out)

    def test_who_can_not_ask_takes_it_back(self):
        self.others.then = [(2, {"ALERTS": "away"})]
        status, out, _ = self.run_it("--hold", "30")
        self.assertEqual((status, self.others.shares), (1, [(95, 5), (100, 0)]))
        self.assertIn("could not be asked", out)

    def test_it_does_not_begin_while_something_burns(self):
        for answers in ({"ALERTS": "1"}, {"ALERTS": "away"}, {"ready": None}):
            self.others.answers = {"ALERTS": None, "refused": "0.001", "ready": "1", **answers}
            status, _, err = self.run_it()
            self.assertEqual((status, self.others.shares), (2, []), err)

    def test_it_waits_until_prometheus_knows_the_canary(self):
        self.others.unknown = 3
        status, _, err = self.run_it("--appear", "60")
        self.assertEqual((status, err, self.others.shares[0]), (0, "", (95, 5)))

    def test_another_route_is_left_alone(self):
        before = json.dumps(self.others.route)
        status, _, err = self.run_it(service="somebody-else")
        self.assertEqual((status, json.dumps(self.others.route)), (1, before))
        self.assertIn("COULD NOT BE SET BACK", err)

    def test_the_way_back_is_tried_again(self):
        self.others.then = [(2, {"ALERTS": "1"})]
        process = self.start("--hold", "5")
        while not self.others.shares:
            self.assertIsNone(process.poll())
        self.others.refuse_patches = 2
        status, _, _ = self.finish(process)
        self.assertEqual((status, self.others.shares[-1]), (1, (100, 0)))

    def test_interrupted_it_goes_back(self):
        process = self.start("--hold", "60")
        while not self.others.shares:
            self.assertIsNone(process.poll())
        process.terminate()
        status, out, _ = self.finish(process)
        self.assertEqual((status, self.others.shares), (1, [(95, 5), (100, 0)]))
        self.assertIn("interrupted", out)

    def test_it_goes_back_when_nobody_looks_on_any_more(self):
        for sign in (signal.SIGHUP, None):
            with self.subTest(sign=sign):
                self.others.shares.clear()
                process = self.start("--hold", "5" if sign is None else "60", "--steps", "5,20")
                while not self.others.shares:
                    self.assertIsNone(process.poll())
                process.stdout.close()
                process.stderr.close()
                # Without a signal the next words find nobody who reads them.
                if sign is not None:
                    process.send_signal(sign)
                self.assertEqual(process.wait(60), 1)
                self.assertEqual(self.others.shares[-1], (100, 0))

    def test_back_by_hand(self):
        status, _, err = self.run_it("--back")
        self.assertEqual((status, err, self.others.shares), (0, "", [(100, 0)]))

    def test_wrong_words_are_refused_before_anything_is_done(self):
        for more in (["--steps", "20,5"], ["--steps", "5,200"], ["--hold", "long"], ["--failed-ratio", "2"], ["--what"]):
            status, _, err = self.run_it(*more)
            self.assertEqual((status, self.others.shares), (2, []), more)
            self.assertTrue(err.startswith("canary: "), err)


if __name__ == "__main__":
    unittest.main()
