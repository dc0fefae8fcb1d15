"""The workflows keep to the rules, the rules notice what breaks them, and CI runs all there is to run."""

import json
import re
import subprocess
import unittest

import rules
from rules import ROOT, WORKFLOWS, broken, files, read

GOOD = """
name: good
on:
  push:
permissions: {}
concurrency:
  group: good
jobs:
  one:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@0123456789012345678901234567890123456789 # v1.2.3
        with:
          persist-credentials: false
      - name: Say it
        env:
          NAME: ${{ inputs.name }}
        run: echo "$NAME"
"""

BAD = {
    "pinned": [
        ("@0123456789012345678901234567890123456789 # v1.2.3", "@v1"),
        ("@0123456789012345678901234567890123456789", "@01234567"),
        (" # v1.2.3", ""),
        ("# v1.2.3", "# main"),
    ],
    "every_use_is_seen": [("- name: Say it", '- {"uses": "actions/cache@v1"}\n      - name: Say it')],
    "permissions": [
        ("permissions: {}", "permissions: read-all"),
        ("    permissions:\n      contents: read\n", ""),
        ("permissions:\n      contents: read", "permissions: write-all"),
    ],
    "timeouts": [("    timeout-minutes: 5\n", "")],
    "concurrency": [("concurrency:\n  group: good\n", "")],
    "triggers": [("push:", "pull_request_target:")],
    "no_expression_in_commands": [('"$NAME"', "${{ inputs.name }}")],
    "no_token_left_behind": [("persist-credentials: false", "fetch-depth: 0")],
    "secrets_are_named": [("    timeout-minutes: 5", "    timeout-minutes: 5\n    secrets: inherit")],
}


class Rules(unittest.TestCase):
    def test_every_workflow_and_action_keeps_to_them(self):
        for file in files():
            with self.subTest(file=file.name):
                self.assertEqual(broken(file.read_text()), [])

    def test_each_notices_what_breaks_it(self):
        self.assertEqual(broken(GOOD), [])
        self.assertEqual(set(BAD), {rule.__name__ for rule in rules.RULES})
        for name, changes in BAD.items():
            for old, new in changes:
                with self.subTest(rule=name, change=new):
                    self.assertIn(old, GOOD)
                    self.assertIn(name, [found for found, _ in broken(GOOD.replace(old, new))])

    def test_one_action_is_one_commit_everywhere(self):
        commits = {}
        for file in files():
            for uses, comment in rules.USES.findall(file.read_text()):
                if "@" in uses:
                    action, commit = uses.split("@")
                    # The folders of one repository are one action.
                    commits.setdefault("/".join(action.split("/")[:2]), set()).add((commit, comment))
        self.assertEqual({name: both for name, both in commits.items() if len(both) > 1}, {})


class Coverage(unittest.TestCase):
    def test_ci_runs_every_part_of_the_tests(self):
        there = re.search(r'^parts="([^"]+)"', (ROOT / "tests" / "run").read_text(), re.MULTILINE)[1].split()
        matrix = read((WORKFLOWS / "ci.yml").read_text())["jobs"]["tests"]["strategy"]["matrix"]["include"]
        self.assertEqual(sorted(there), sorted(row["part"] for row in matrix))

    def test_updates_come_for_every_manifest(self):
        document = read((ROOT / ".github" / "dependabot.yml").read_text())
        covered = {(update["package-ecosystem"], directory) for update in document["updates"] for directory in update["directories"]}
        manifests = {"Cargo.toml": "cargo", "package.json": "npm", "Dockerfile": "docker", "compose.yaml": "docker-compose"}
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for file in tracked:
            folder, _, name = file.rpartition("/")
            # Members of the workspace come with its root.
            if name in manifests and file not in ("loadtest/Cargo.toml", "src/client/Cargo.toml"):
                with self.subTest(file=file):
                    self.assertIn((manifests[name], "/" + folder), covered)
        self.assertIn(("github-actions", "/"), covered)

    def test_the_lock_files_name_no_registry_of_somebodys_own(self):
        tracked = subprocess.run(["git", "ls-files", "*package-lock.json"], cwd=ROOT, capture_output=True, text=True, check=True)
        for file in tracked.stdout.split():
            for name, package in json.loads((ROOT / file).read_text())["packages"].items():
                with self.subTest(file=file, package=name):
                    self.assertNotIn("resolved", package)


if __name__ == "__main__":
    unittest.main()
