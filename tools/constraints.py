"""Settle anew which versions of everything are installed here: ``make constraints``.

Written are ``constraints/python.txt`` (every package that the project, its tests and its checks need, direct and
indirect) and ``constraints/npm/package-lock.json`` (the same for the real parts that npm has, whose versions
``constraints/npm/package.json`` names). Whoever installs takes these: ``make``, tox, CI, the image. ``pip install
evmlb`` does not; it keeps the ranges of ``setup.py``.

One file serves every Python that is supported and every system: uv resolves for all of them at once (``--universal``),
and puts a marker where they differ. Neither file names an index: where packages come from is the machine's matter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.deps import CONSTRAINTS, requirements
from tools.parts import MANIFEST, npm_command

OLDEST_PYTHON = "3.11"
_HEAD = "# Written by `make constraints`: what is installed for tests, checks, demo and image. setup.py has the ranges."


def compiled(wanted: list[str]) -> str:
    """Exact versions of these requirements and all that they need."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--upgrade"]
    command += ["--python-version", OLDEST_PYTHON, "--no-header", "--no-annotate", *_index(), "-"]
    done = subprocess.run(
        command, input="\n".join(wanted), capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise SystemExit(f"constraints: {done.stderr}")
    return done.stdout


def _index() -> list[str]:
    """The index that pip uses on this machine: uv does not read its settings."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    return ["--index-url", done.stdout.strip()] if done.returncode == 0 and done.stdout.strip() else []


def _environment() -> dict[str, str]:
    certificates = os.environ.get("PIP_CERT")
    return {**os.environ, **({"SSL_CERT_FILE": certificates} if certificates else {})}


def lock(folder: Path) -> None:
    """Settle the packages of npm, without installing them or noting where they came from."""
    quiet = ["--package-lock-only", "--omit-lockfile-registry-resolved", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run([*npm_command(), "update", "--prefix", str(folder), *quiet], check=True)


def main() -> None:
    """Write both files."""
    CONSTRAINTS.write_text(f"{_HEAD}\n{compiled(requirements(['test', 'lint', 'build']))}")
    lock(MANIFEST.parent)


if __name__ == "__main__":
    main()
