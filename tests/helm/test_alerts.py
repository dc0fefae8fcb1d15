"""The alert rules: each fires when it has to (promtool), and leads to a page that says what to do."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

import yaml

from rendered import CHART, ROOT, run

RULES = sorted((CHART / "alerts").glob("*.yaml"))
TESTS = Path(__file__).with_name("alerts_test.yaml")


def rules():
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


class Alerts(unittest.TestCase):
    def promtool(self, *changes):
        """promtool's unit tests, with the rules changed so."""
        with tempfile.TemporaryDirectory() as folder:
            for file in RULES:
                text = file.read_text()
                for old, new in changes:
                    self.assertIn(old, text)
                    text = text.replace(old, new)
                Path(folder, file.name).write_text(text)
            shutil.copy(TESTS, folder)
            checked = run(["promtool", "check", "rules", *[f.name for f in RULES]], cwd=folder)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
            return run(["promtool", "test", "rules", TESTS.name], cwd=folder)

    def test_they_fire_when_they_have_to(self):
        done = self.promtool()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_tests_notice_a_rule_that_is_wrong(self):
        for change in [
            ("roundtable_store_up == 0", "roundtable_store_up == 2"),
            ("> 0.05", "> 0.5"),
            ("roundtable_fences_total[5m]", "roundtable_fences_total[2h]"),
            ("timestamp_seconds > 0", "timestamp_seconds > -1"),
        ]:
            with self.subTest(change=change):
                self.assertNotEqual(self.promtool(change).returncode, 0)

    def test_no_alert_is_without_a_test(self):
        tests = yaml.safe_load(TESTS.read_text())["tests"]
        fired = {a["alertname"] for t in tests for a in t.get("alert_rule_test", []) if a.get("exp_alerts")}
        self.assertEqual(fired, {rule["alert"] for rule in rules() if "alert" in rule})

    def test_every_alert_says_how_urgent_it_is_and_leads_to_its_page(self):
        for rule in rules():
            if "alert" not in rule:
                continue
            with self.subTest(alert=rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("page", "ticket"))
                self.assertTrue(rule["annotations"]["summary"])
                page, anchor = rule["annotations"]["runbook_url"].split("#")
                headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
                self.assertIn(anchor, [heading.strip().lower() for heading in headings])


if __name__ == "__main__":
    unittest.main()
