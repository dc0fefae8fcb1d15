"""What dashboards and alerts ask for is what a node tells, and the number of series does not grow with its use."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from rendered import CHART, PROGRAM, ROOT, run

# Of Prometheus itself and of its node exporter.
OTHERS = re.compile(r"^(up|ALERTS|node_\w+)$")
# What a label may tell of. Whoever adds one says here that its values are few and known.
LABELS = {"answer", "class", "code", "job", "le", "outcome", "reason", "source", "transport", "version"}
SERIES_MAX = 600


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Node:
    """A node with a store of its own; ended when it is left."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.http, self.admin = free_port(), free_port()
        env = {
            "PATH": os.environ["PATH"], "ROUNDTABLE__SERVER__BIND": f"127.0.0.1:{self.http}",
            "ROUNDTABLE__ADMIN__BIND": f"127.0.0.1:{self.admin}", "ROUNDTABLE__LOG__LEVEL": "warn",
        }
        self.process = subprocess.Popen(
            [PROGRAM], env=env, cwd=self.folder.name, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5).close()
                return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise
                time.sleep(0.1)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def smoke(self):
        """People, a room and messages that nobody knew before."""
        done = run([PROGRAM, "smoke", f"http://127.0.0.1:{self.http}"])
        assert done.returncode == 0, done.stderr

    def series(self):
        """(name, labels) of everything that it tells."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = set()
        for line in lines:
            if not line.startswith("#"):
                name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
                found.add((name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels or "")))))
        return found


def asked():
    """(where, expression) of all dashboards and rules."""
    for file in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"]
    for file in sorted((CHART / "alerts").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield f"{file.name}: {rule.get('alert') or rule['record']}", rule["expr"]


def recorded():
    """What rules make."""
    files = (CHART / "alerts").glob("*.yaml")
    return {r["record"] for f in files for g in yaml.safe_load(f.read_text())["groups"] for r in g["rules"] if "record" in r}


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Node() as node:
            # The second one finds what the first left: what appears with the first use is there.
            node.smoke()
            node.smoke()
            cls.first = node.series()
            for _ in range(4):
                node.smoke()
            cls.last = node.series()
        cls.labels = {}
        for name, labels in cls.last:
            for whole in {name, re.sub(r"_(bucket|count|sum)$", "", name)}:
                cls.labels.setdefault(whole, set()).update(key for key, _ in labels)

    def test_what_is_asked_for_is_told(self):
        known = set(self.labels) | recorded()
        for where, expression in asked():
            bare = re.sub(r'"[^"]*"', '""', expression)
            for name in re.findall(r"\b(?:roundtable|process|node)[_:][a-zA-Z0-9_:]+", bare):
                with self.subTest(where=where, metric=name):
                    self.assertTrue(name in known or OTHERS.match(name), name)

    def test_labels_that_are_asked_for_are_there(self):
        # Prometheus gives every series these, and renames the program's own job.
        of_prometheus = {"instance", "job", "exported_job", "mountpoint", "device", "mode", "fstype", "severity"}
        all_labels = set().union(*self.labels.values()) | of_prometheus
        for where, expression in asked():
            wanted = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
            wanted |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
            with self.subTest(where=where):
                self.assertLessEqual(wanted, all_labels)
            # Where one metric alone is summed up, by labels that are its own.
            for by, name in re.findall(r"by \(([^)]*)\) \((?:rate|increase)\((roundtable_\w+)", expression):
                own = self.labels.get(name, set()) | of_prometheus
                with self.subTest(where=where, metric=name):
                    self.assertLessEqual({label.strip() for label in by.split(",")}, own)

    def test_series_do_not_grow_with_use(self):
        self.assertEqual(self.last - self.first, set())
        self.assertLess(len(self.last), SERIES_MAX)
        self.assertLessEqual({key for _, labels in self.last for key, _ in labels}, LABELS)

    def test_dashboards_are_those_of_their_tables(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run([str(ROOT / "helm" / "make-dashboards"), folder])
            self.assertEqual(done.returncode, 0, done.stderr)
            made = {file.name: file.read_text() for file in Path(folder).glob("*.json")}
        there = {file.name: file.read_text() for file in (CHART / "dashboards").glob("*.json")}
        self.assertEqual(made, there)


if __name__ == "__main__":
    unittest.main()
