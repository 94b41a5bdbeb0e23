"""The plugin of a real install: found by Twisted, with its options; nothing of it imports a reactor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent


class PluginTests(SynchronousTestCase):
    def run_python(self, *arguments: str, path: str) -> str:
        """Output of a Python that has only the install on its path."""
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.stdout + done.stderr

    def test_installed(self) -> None:
        """After an install, ``twistd --help`` names it, its options are there, and so is the reactor."""
        target = os.path.abspath(self.mktemp())
        source = os.path.abspath(self.mktemp())
        self.copy_sources(Path(source))
        installed = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, source],
            capture_output=True,
            text=True,
            timeout=180,
            env={**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints" / "python.txt")},  # of what the build needs
            stdin=subprocess.DEVNULL,
            check=False,
        )
        self.assertEqual(installed.returncode, 0, installed.stderr)
        twisted_help = self.run_python("-m", "twisted", "--help", path=target)
        self.assertIn("evmlb", twisted_help)
        self.assertIn("--config=", self.run_python("-m", "twisted", "evmlb", "--help", path=target))
        found = self.run_python(
            "-c",
            "from twisted.application.reactors import getReactorTypes; import sys, evmlb;"
            "print([r.shortName for r in getReactorTypes() if 'evmlb' in r.shortName]);"
            "print('twisted.internet.reactor' in sys.modules, evmlb.__file__.startswith(sys.argv[1]))",
            target,
            path=target,
        )
        self.assertEqual(found.splitlines(), ["['evmlb']", "False True"])

    def copy_sources(self, target: Path) -> None:
        """What an install needs, without what tests and builds have left beside it."""
        target.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, target)
        for name in ("evmlb", "twisted"):
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
