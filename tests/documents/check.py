#!/usr/bin/env python3
"""What documents say that can be looked up: links and anchors, settings, metrics, parts of the tests, alerts; and that a document
in Japanese has what the one in English has. Needs nothing but Python and git."""

import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))

from markdown import anchors, fences, headings, links, without_code  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "helm" / "roundtable" / "alerts"
# Whoever runs the server reads these first.
TRANSLATED = {"README.md": "README.ja.md", "docs/handbook.md": "docs/handbook.ja.md"}
DEFAULTS = tomllib.loads((ROOT / "config" / "default.toml").read_text())
SECTIONS = "|".join(DEFAULTS)
SETTING = re.compile(rf"`((?:{SECTIONS})\.[a-z0-9_.]*[a-z0-9_])(?: = [^`]*)?`")
VARIABLE = re.compile(r"ROUNDTABLE__([A-Z0-9]+(?:_{1,2}[A-Z0-9]+)+)")
METRIC = re.compile(r"\broundtable_[a-z0-9_]+\b")


def tracked(pattern):
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern], cwd=ROOT, capture_output=True, check=True)
    return sorted(set(filter(None, listed.stdout.decode().split("\0"))))


def documents(root=ROOT):
    return {name: (root / name).read_text() for name in tracked("*.md")}


def broken(root, names):
    """(document, line, target) of each relative link that leads nowhere."""
    texts = {}
    for name in names:
        for line, target in links((root / name).read_text()):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (root / name).parent / path if path else root / name
            if path.startswith("/") or not file.resolve().is_relative_to(root.resolve()) or not file.exists():
                yield name, line, target
            elif anchor:
                file = file.resolve()
                if file.suffix != ".md" or anchor not in texts.setdefault(file, anchors(file.read_text()) if file.is_file() else set()):
                    yield name, line, target


def settings():
    def walk(table, before):
        for key, value in table.items():
            yield ".".join([*before, key])
            if isinstance(value, dict):
                yield from walk(value, [*before, key])

    return set(walk(DEFAULTS, []))


def sources():
    return "\n".join((ROOT / name).read_text() for name in tracked("src/*.rs"))


class Links(unittest.TestCase):
    def test_each_leads_somewhere(self):
        self.assertEqual(list(broken(ROOT, tracked("*.md"))), [])

    def test_one_that_leads_nowhere_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "docs").mkdir()
            (root / "docs" / "b.md").write_text("# A `b` & [c](a.md)!\n\n# Same\n\n# Same\n\n```\n# no heading\n```\n")
            (root / "a.md").write_text(
                "[good](docs/b.md) ![good](docs/b.md) [good](docs/b.md#a-b--c) [good](#here) [good](https://x.example/)\n"
                "[good](docs/b.md#same-1) `[code](nowhere)` <!-- [comment](nowhere) -->\n\n"
                "# Here\n```sh\n[code](nowhere)\n```\n[bad](nowhere.md) [bad](docs/b.md#nowhere) [bad](#nowhere)\n"
                '[bad](/docs/b.md) [bad](../a.md) [bad](docs/b.md#no-heading) <img src="nowhere.png">\n[bad]: docs/nowhere.md\n'
            )
            found = [(line, target) for _, line, target in broken(root, ["a.md"])]
            self.assertEqual(
                sorted(found),
                [(8, "#nowhere"), (8, "docs/b.md#nowhere"), (8, "nowhere.md"), (9, "../a.md"), (9, "/docs/b.md"),
                 (9, "docs/b.md#no-heading"), (9, "nowhere.png"), (10, "docs/nowhere.md")],
            )

    def test_every_document_is_reached_from_the_index(self):
        index = {(ROOT / "docs" / target.partition("#")[0]).resolve() for _, target in links((ROOT / "docs" / "README.md").read_text())}
        for name in tracked("docs/*.md"):
            if name != "docs/README.md":
                with self.subTest(document=name):
                    self.assertIn((ROOT / name).resolve(), index)


class Names(unittest.TestCase):
    def test_settings_are_those_of_the_server(self):
        # Events of the log have names of the same form.
        known = settings() | set(re.findall(r'"([a-z]+(?:\.[a-z_]+)+)"', sources()))
        for name, text in documents().items():
            for setting in SETTING.findall(text):
                with self.subTest(document=name, setting=setting):
                    # With a _ behind it: all that begin so.
                    self.assertTrue(setting in known or any(key.startswith(setting) for key in known if setting[-1] == "_"), setting)

    def test_variables_are_those_of_the_server(self):
        known = {key.replace(".", "__").upper() for key in settings()}
        for name, text in documents().items():
            for variable in VARIABLE.findall(text):
                if not variable.startswith("SECTION__"):
                    with self.subTest(document=name, variable=variable):
                        self.assertIn(variable, known)

    def test_metrics_are_those_of_the_server(self):
        # Some are written whole, most without the prefix and _total, which the program adds.
        known = set(re.findall(r'"([a-z][a-z0-9_]*)"', sources()))
        for name, text in documents().items():
            # The changelog names what is gone, too.
            if name == "CHANGELOG.md":
                continue
            for metric in set(METRIC.findall(text)):
                with self.subTest(document=name, metric=metric):
                    whole = re.sub(r"_(?:bucket|count|sum)$", "", metric)
                    names = {metric, whole, whole.removesuffix("_total")}
                    names |= {each.removeprefix("roundtable_") for each in names}
                    # With a _ behind it: all that begin so.
                    begins = metric.endswith("_") and any(key.startswith(tuple(names)) for key in known)
                    self.assertTrue(begins or names & known, metric)

    def test_figures_of_the_capacity_plan_were_measured(self):
        measured = "\n".join((ROOT / "loadtest" / name).read_text() for name in ("RESULTS.md", "README.md", "src/plan/costs.toml"))
        rows = [line.split("|") for line in (ROOT / "docs" / "capacity.md").read_text().splitlines() if line.count("|") == 4]
        figures = [figure for row in rows for figure in re.findall(r"\d[\d,.]*\d", row[3])]
        self.assertGreater(len(figures), 10)
        for figure in figures:
            with self.subTest(figure=figure):
                self.assertTrue(re.search(rf"(?<![\d,.]){re.escape(figure)}(?!\d|[,.]\d)", measured), figure)

    def test_parts_of_the_tests_are_there(self):
        parts = re.search(r'^parts="([^"]+)"', (ROOT / "tests" / "run").read_text(), re.MULTILINE)[1].split()
        for name, text in documents().items():
            for part in re.findall(r"tests/run\s+--only\s+([a-z0-9]+)", text):
                with self.subTest(document=name):
                    self.assertIn(part, parts)


class Runbooks(unittest.TestCase):
    def test_every_alert_has_a_section_and_every_section_an_alert(self):
        rules = "\n".join(file.read_text() for file in sorted(ALERTS.glob("*.yaml")))
        alerts = re.findall(r"^\s*- alert: (\w+)$", rules, re.MULTILINE)
        links_of_rules = re.findall(r"^\s*runbook_url: (\S+)$", rules, re.MULTILINE)
        self.assertEqual(len(alerts), len(links_of_rules))
        for alert, link in zip(alerts, links_of_rules, strict=True):
            with self.subTest(alert=alert):
                self.assertEqual(link, f"docs/alerts.md#{alert.lower()}")
        sections = [words for level, words in headings((ROOT / "docs" / "alerts.md").read_text()) if level == 3]
        self.assertEqual(sorted(sections), sorted(alerts))

    def test_every_section_says_how_urgent_it_is_as_its_rule_does(self):
        rules = "\n".join(file.read_text() for file in sorted(ALERTS.glob("*.yaml")))
        text = (ROOT / "docs" / "alerts.md").read_text()
        for alert, severity in re.findall(r"- alert: (\w+)$.*?severity: (\w+)$", rules, re.MULTILINE | re.DOTALL):
            with self.subTest(alert=alert):
                self.assertTrue(f"### {alert}\n*{severity}.*" in text, severity)

    def test_the_handbook_names_those_that_wake_somebody(self):
        rules = "\n".join(file.read_text() for file in sorted(ALERTS.glob("*.yaml")))
        pages = re.findall(r"- alert: (\w+)(?:(?!- alert:).)*?severity: page$", rules, re.MULTILINE | re.DOTALL)
        for name in ("handbook.md", "handbook.ja.md"):
            paragraph = next(p for p in (ROOT / "docs" / name).read_text().split("\n\n") if "\n*page*" in p)
            with self.subTest(document=name):
                self.assertEqual(set(re.findall(r"\[(Roundtable\w+)\]", paragraph)), set(pages))

    def test_every_section_says_what_to_look_at_and_what_to_do(self):
        for section in (ROOT / "docs" / "alerts.md").read_text().split("\n### ")[1:]:
            with self.subTest(alert=section.partition("\n")[0]):
                self.assertRegex(section, r"\*\*[Ll]ook\*\*")
                self.assertRegex(section, r"\*\*[Dd]o\*\*")


class Translations(unittest.TestCase):
    def test_each_has_what_the_first_has(self):
        for first, second in TRANSLATED.items():
            one, other = ((ROOT / name).read_text() for name in (first, second))
            with self.subTest(document=second):
                self.assertEqual([level for level, _ in headings(one)], [level for level, _ in headings(other)])

                def targets(text):
                    # Each names the other, and anchors are in a document's own language.
                    names = {target.partition("#")[0] for _, target in links(text)}
                    return {re.sub(r"\.ja\.md$", ".md", name) for name in names}

                self.assertEqual(targets(one) | {Path(first).name}, targets(other) | {Path(first).name})
                self.assertEqual(commands(one), commands(other))
                self.assertEqual(without_code(one).count("|---"), without_code(other).count("|---"))


def commands(text):
    """Blocks of code without their comments and without the texts that people say in them."""
    return [
        re.sub(r'"text":"[^"]*"', '"text":""', "\n".join(re.sub(r"\s+(#|→).*$", "", line) for line in block.splitlines()))
        for block in fences(text)
    ]


if __name__ == "__main__":
    unittest.main()
