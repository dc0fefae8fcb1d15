"""The rules in a real Prometheus that scrapes a real cluster: silent while it is well, and each fault sets its alert off.

A minute of the rules is a second here; nothing else of them is changed.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from rendered import CHART, PROGRAM, run

LOADTEST = str(Path(PROGRAM).with_name("roundtable-loadtest"))
PATIENCE_S = 90


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, look):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.2)


def hurried(text):
    """Ranges and waits of the rules, a sixtieth as long."""
    def shorter(match):
        number, unit = int(match[2]), match[3]
        seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
        return f"{match[1]}{max(seconds // 60, 1)}s"

    return re.sub(r"(\[|for: )(\d+)([smhd])", shorter, text)


class Cluster:
    """Three nodes with PostgreSQL and Redis of their own."""

    def __init__(self):
        self.said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [LOADTEST, "cluster", "--nodes", "3", "--roundtable", PROGRAM], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.said, text=True,
        )
        self.nodes, self.store, self.token = [], None, None
        for line in self.process.stdout:
            if node := re.search(r"http://(\S+)  admin http://(\S+)", line):
                self.nodes.append((node[1], node[2]))
            elif line.startswith("store "):
                self.store = line.split()[1]
            elif line.startswith("alice, "):
                self.token = next(self.process.stdout).strip()
            elif line.startswith("Ctrl-C"):
                return
        self.process.stdout.close()
        status = self.process.wait()
        with self.said as said:
            said.seek(0)
            raise AssertionError(f"the cluster did not start: status {status}\n{said.read()}")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()

    def call(self, path, body):
        """POST to the first node; the status, or None where nobody answers."""
        request = urllib.request.Request(
            f"http://{self.nodes[0][0]}/api/v1/{path}", json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def psql(self, sql):
        done = run(["psql", "--quiet", "--no-psqlrc", self.store, "-c", sql])
        assert done.returncode == 0, done.stderr

    def node_of(self, address):
        """The process that listens there."""
        port = f":{int(address.rsplit(':', 1)[1]):04X}"
        inodes = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(port) and fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
        raise AssertionError(f"nobody listens at {address}")


class Prometheus:
    def __init__(self, folder, targets):
        for file in (CHART / "alerts").glob("*.yaml"):
            Path(folder, file.name).write_text(hurried(file.read_text()))
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["*.yaml"],
            "scrape_configs": [{"job_name": "roundtable", "static_configs": [{"targets": targets}]}],
        }
        Path(folder, "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except (OSError, ValueError):
            return None

    def firing(self):
        """{alert: instances}"""
        found = {}
        for alert in (self.get("alerts") or {"alerts": []})["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], set()).add(alert["labels"].get("instance"))
        return found

    def healthy(self):
        data = self.get("targets?state=active")
        return [t for t in (data or {"activeTargets": []})["activeTargets"] if t["health"] == "up"]

    def end(self):
        self.process.terminate()
        self.process.wait(30)


@unittest.skipUnless(shutil.which("prometheus"), "tests/run installs prometheus")
class Alerts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cluster = Cluster()
        self.addCleanup(self.cluster.end)
        self.prometheus = Prometheus(folder.name, [admin for _, admin in self.cluster.nodes])
        self.addCleanup(self.prometheus.end)
        self.stop = threading.Event()
        self.addCleanup(self.stop.set)

    def talk(self):
        """Messages of one person, until the end."""
        self.assertEqual(self.cluster.call("rooms", {"id": "lobby", "kind": "public"}), 201)

        def talking():
            n = 0
            while not self.stop.wait(0.05):
                n += 1
                self.cluster.call("rooms/lobby/messages", {"id": f"m{n}", "text": "hello"})

        thread = threading.Thread(target=talking)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.stop.set)

    def quiet(self, seconds):
        """Waits for a stretch without any alert. A machine that is busy otherwise may be slow at first, and says so."""
        since = None

        def look():
            nonlocal since
            if self.prometheus.firing():
                since = None
            elif since is None:
                since = time.monotonic()
            return since is not None and time.monotonic() - since > seconds

        until(f"nothing fires for {seconds} s", look)

    def fires(self, alert, cause=lambda: None):
        """`cause` is done again and again until the alert fires."""
        def look():
            cause()
            return self.prometheus.firing().get(alert)

        return until(alert, look)

    def test_each_fault_sets_its_alert_off_and_health_none(self):
        until("all are scraped", lambda: len(self.prometheus.healthy()) == 3)
        self.talk()
        # Longer than any of the hurried rules waits of those that could fire here.
        self.quiet(12)

        # The rule on backups waits longest: meanwhile, the others.
        now = int(time.time())
        self.cluster.psql(f"INSERT INTO backups (taken_at, bytes) VALUES ({now - 3 * 3600}, 1)")

        # Somebody else has taken the room, as far as the store knows.
        self.assertTrue(self.fires("RoundtableFenced", lambda: self.cluster.psql("UPDATE room_heads SET epoch = epoch + 1")))

        # Every commit has to wait for a lock.
        slow = "BEGIN; LOCK TABLE entries IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.7); COMMIT"
        self.fires("RoundtableAckSlow", lambda: self.cluster.psql(slow))

        self.fires("RoundtableBackupTooOld")
        self.cluster.psql(f"UPDATE backups SET taken_at = {now}")
        until("a new backup ends it", lambda: "RoundtableBackupTooOld" not in self.prometheus.firing())

        _, admin = self.cluster.nodes[2]
        os.kill(self.cluster.node_of(admin), signal.SIGKILL)
        until("the node that is gone, and no other", lambda: self.prometheus.firing().get("RoundtableNodeDown") == {admin})


if __name__ == "__main__":
    unittest.main()
