"""docker/: the composition is valid and hardened, its secrets fit, and HAProxy leads clients to a real node."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import yaml

from rendered import CHART, PROGRAM, ROOT, run

DOCKER = ROOT / "docker"


def compose(environment):
    """`docker-compose config`; the plugin of newer engines does as well."""
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere"}
    # The variables of a file alone count, not those of whoever runs this.
    profiles = [word for name in ("one", "cluster", "monitoring") for word in ("--profile", name)]
    done = run([*program, *profiles, "-f", "compose.yaml", "--env-file", f"env/{environment}.env", "config"], cwd=DOCKER, env=env)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return yaml.safe_load(done.stdout)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Secrets(unittest.TestCase):
    def test_made_once_and_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            for again in range(2):
                done = run([str(DOCKER / "make-secrets"), folder])
                self.assertEqual(done.returncode, 0, done.stderr)
                made = {file.name: file.read_text() for file in Path(folder).iterdir()}
                self.assertTrue(again == 0 or made == before)
                before = made
            wanted = {s["file"].rsplit("/", 1)[1] for s in yaml.safe_load((DOCKER / "compose.yaml").read_text())["secrets"].values()}
            self.assertLessEqual(wanted, set(made))
            self.assertIn(made["postgres-password"].strip(), made["store-url"])
            for file in ("redis-url", "redis.conf", "sentinel.conf"):
                self.assertIn(made["redis-password"].strip(), made[file])
            self.assertEqual(Path(folder).stat().st_mode & 0o777, 0o700)

    def test_nothing_of_them_is_in_the_checkout(self):
        self.assertIn("/docker/secrets", (ROOT / ".gitignore").read_text().split())
        self.assertFalse(run(["git", "ls-files", "docker/secrets"], cwd=ROOT).stdout)


class Composition(unittest.TestCase):
    def test_every_part_is_hardened_and_published_with_care(self):
        for environment in ("development", "production"):
            services = compose(environment)["services"]
            self.assertEqual(len(services), 14)
            for name, service in services.items():
                with self.subTest(environment=environment, service=name):
                    self.assertIs(service["read_only"], True)
                    self.assertEqual(service["cap_drop"], ["ALL"])
                    self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                    self.assertTrue(service.get("profiles"))
                    for port in service.get("ports", []):
                        text = port if isinstance(port, str) else f"{port.get('host_ip', '')}:{port['published']}:{port['target']}"
                        self.assertTrue(name == "proxy" or text.startswith("127.0.0.1:"), text)
                        self.assertNotIn("9464", text)
                    # Secrets are files.
                    for key, value in (service.get("environment") or {}).items():
                        if re.search("SECRET|PASSWORD|STORE__URL|REDIS_URL", key):
                            self.assertTrue(str(value).startswith("/run/secrets/"), key)
                            mounted = [s if isinstance(s, str) else s["source"] for s in service["secrets"]]
                            self.assertIn(value.removeprefix("/run/secrets/"), mounted)

    def test_the_program_takes_its_settings(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(run([str(DOCKER / "make-secrets"), folder]).returncode, 0)
            services = compose("production")["services"]
            for name in ("roundtable", "node-1", "node-2", "node-3"):
                env = {k: str(v).replace("/run/secrets", folder) for k, v in services[name]["environment"].items()}
                done = run([PROGRAM, "check-config"], env={**env, "ROUNDTABLE__SERVER__BIND": "0.0.0.0:8080"}, cwd=folder)
                self.assertEqual((done.returncode, done.stderr), (0, ""), name)

    def test_nodes_have_time_to_drain(self):
        for name, service in compose("production")["services"].items():
            if name.startswith(("node", "roundtable")):
                self.assertGreaterEqual(int(service["stop_grace_period"].removesuffix("s")), 30)

    def test_the_image_tells_defaults_apart_from_the_dockerfile(self):
        stated = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE))
        self.assertEqual(compose("development")["services"]["node-1"]["build"]["args"], stated)
        rust = re.search(r"rust:(\d+\.\d+)", stated["BUILD_IMAGE"])[1]
        wanted = re.search(r'rust-version = "(\d+\.\d+)', (ROOT / "Cargo.toml").read_text())[1]
        self.assertGreaterEqual([int(n) for n in rust.split(".")], [int(n) for n in wanted.split(".")])


class Around(unittest.TestCase):
    def test_prometheus_takes_its_settings(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
            file.write(text.replace("/etc/prometheus/alerts", str(CHART / "alerts")))
            file.flush()
            done = run(["promtool", "check", "config", file.name])
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # Alerts go by this job.
        self.assertEqual([c["job_name"] for c in yaml.safe_load(text)["scrape_configs"]], ["roundtable"])

    def test_alertmanager_takes_its_routes(self):
        done = run(["amtool", "check-config", *map(str, (DOCKER / "alertmanager").glob("*.yml"))])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_haproxy_leads_clients_to_a_node_that_is_ready(self):
        port, admin, https, plain = (free_port() for _ in range(4))
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(run([str(DOCKER / "make-secrets"), f"{folder}/secrets"]).returncode, 0)
            text = (DOCKER / "haproxy" / "haproxy.cfg").read_text()
            for old, new in [
                ("/run/secrets", f"{folder}/secrets"), (":8443", f"127.0.0.1:{https}"), ("bind :8080", f"bind 127.0.0.1:{plain}"),
                ("check port 9464", f"check port {admin}"), ("node-1:8080", f"127.0.0.1:{port}"),
                # Nobody is there: health checks have to find out.
                ("node-2:8080", "127.0.0.2:1"), ("node-3:8080", "127.0.0.3:1"),
            ]:
                self.assertIn(old, text)
                text = text.replace(old, new)
            Path(folder, "haproxy.cfg").write_text(text)
            node = subprocess.Popen([PROGRAM], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={
                "ROUNDTABLE__SERVER__BIND": f"127.0.0.1:{port}", "ROUNDTABLE__ADMIN__BIND": f"127.0.0.1:{admin}",
                "ROUNDTABLE__SERVER__TRUSTED_PROXIES": "127.0.0.1", "ROUNDTABLE__LOG__LEVEL": "warn",
            })
            proxy = subprocess.Popen(["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL)
            try:
                env = {"SSL_CERT_FILE": f"{folder}/secrets/proxy-certificate"}
                deadline = time.monotonic() + 60
                while True:
                    done = run([PROGRAM, "smoke", f"https://localhost:{https}"], env=env)
                    if done.returncode == 0 or time.monotonic() > deadline:
                        break
                    self.assertIsNone(proxy.poll(), "HAProxy ended")
                self.assertEqual((done.returncode, done.stderr), (0, ""))

                class Stay(urllib.request.HTTPRedirectHandler):
                    def redirect_request(self, *_):
                        return None

                with self.assertRaises(urllib.error.HTTPError) as sent:
                    urllib.request.build_opener(Stay).open(f"http://127.0.0.1:{plain}/x", timeout=10)
                self.assertEqual((sent.exception.code, sent.exception.headers["Location"]), (308, f"https://127.0.0.1:{plain}/x"))
            finally:
                for process in (proxy, node):
                    process.terminate()
                    process.wait(60)


if __name__ == "__main__":
    unittest.main()
