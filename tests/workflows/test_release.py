"""What a release is checked for before anything of it is published."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from rules import ROOT

FILES = [".ci/release-notes", "Cargo.toml", "helm/roundtable/Chart.yaml", "src/web/sdk/package.json"]
CHANGELOG = """# Changelog

## [Unreleased]

## [0.1.1] - 2030-02-01
### Fixed
- Something else.

## [0.1.0] - 2030-01-01
### Added
- The first thing.

### Changed
- The second.

## [0.0.9] - 2029-01-01
- Older.
"""


class Notes(unittest.TestCase):
    def notes(self, tag, *changes):
        with tempfile.TemporaryDirectory() as folder:
            for file in FILES:
                Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, Path(folder, file))
            Path(folder, "CHANGELOG.md").write_text(CHANGELOG)
            for file, old, new in changes:
                text = Path(folder, file).read_text()
                self.assertIn(old, text)
                Path(folder, file).write_text(text.replace(old, new))
            return subprocess.run([Path(folder, ".ci/release-notes"), tag], capture_output=True, text=True, check=False)

    def setUp(self):
        # The version that the files have now, as the tests have to hold for each.
        manifest = (ROOT / "Cargo.toml").read_text()
        self.version = manifest.split("[workspace.package]")[1].split('version = "')[1].split('"')[0]
        self.named = ("CHANGELOG.md", "[0.1.0]", f"[{self.version}]")

    def test_the_section_is_the_notes(self):
        done = self.notes(f"v{self.version}", self.named)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "### Added\n- The first thing.\n\n### Changed\n- The second.\n")

    def test_everything_has_to_agree_on_the_version(self):
        for file, old in [
            ("Cargo.toml", f'version = "{self.version}"'),
            ("helm/roundtable/Chart.yaml", f"\nversion: {self.version}"),
            ("helm/roundtable/Chart.yaml", f"appVersion: {self.version}"),
            ("src/web/sdk/package.json", f'"version": "{self.version}"'),
            ("CHANGELOG.md", f"[{self.version}]"),
        ]:
            with self.subTest(file=file, old=old):
                done = self.notes(f"v{self.version}", self.named, (file, old, old.replace(self.version, "77.0.0")))
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(self.version, done.stderr)

    def test_a_tag_is_a_version(self):
        for tag in ["main", "v1", self.version, f"v{self.version}; true"]:
            with self.subTest(tag=tag):
                self.assertEqual(self.notes(tag, self.named).returncode, 1)


if __name__ == "__main__":
    unittest.main()
