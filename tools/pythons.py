"""Run the tests on each supported Python that this machine has: ``make pythons``.

A Python is looked for on the path, and among those that pyenv keeps. Each gets a virtual environment of its own with
the settled versions. In the end a line says which were run, which were not there, and how each ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


def candidates(version: str) -> Iterator[str]:
    """Where a Python of this version may be."""
    found = shutil.which(f"python{version}")
    if found:
        yield found
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from (str(path) for path in sorted(kept.glob(f"{version}.*/bin/python{version}"), reverse=True))


def find(version: str) -> str | None:
    """A Python of this version that starts; None when there is none."""
    for path in candidates(version):
        command = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):  # not there, or a shim for one that is not
            continue
        if said == version:
            return path
    return None


def run(version: str, python: str, target: str) -> bool:
    """Whether the tests pass on it."""
    print(f"== Python {version}", flush=True)
    command = ["make", target, f"PYTHON={python}", f"VENV=.venv-{version}"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main() -> int:
    """0 when the tests passed on each Python that is there, and there was one."""
    parser = argparse.ArgumentParser(description="The tests on each supported Python that is here.")
    parser.add_argument("--target", default="test", choices=("test", "unit"), help="which tests")
    parser.add_argument("--only", default=",".join(SUPPORTED), help="some of these versions")
    options = parser.parse_args()
    found = {version: find(version) for version in options.only.split(",")}
    ends = {version: run(version, python, options.target) for version, python in found.items() if python}
    words = {None: "not here", True: "passed", False: "FAILED"}
    print("; ".join(f"Python {version}: {words[ends.get(version)]}" for version in found))
    return 0 if ends and all(ends.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
