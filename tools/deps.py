"""Install what ``setup.py`` asks for, without the package itself.

``python -m tools.deps [--lowest | --newest] [extra ...]``, run by the python of the virtual environment to install
into.

From a checkout the package is run in place. An installed copy beside it would be found or not found depending on the
current directory, and its plugin would be found twice; so only dependencies are installed, and a real install is the
business of the plugin's own test.

Installed are the versions of ``constraints/python.txt``, so that a checkout does today what it did when it was made
(:mod:`tools.constraints` writes that file). ``--newest`` is what a new environment gets by the ranges of ``setup.py``;
``--lowest`` takes each ``>=`` of ``install_requires`` as ``==``, and all else as settled.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETUP = ROOT / "setup.py"
CONSTRAINTS = ROOT / "constraints" / "python.txt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def declared(source: str) -> tuple[list[str], dict[str, list[str]]]:
    """``install_requires`` and ``extras_require`` as the text of a setup.py has them, which must be literals."""
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call))
    call = next(c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "setup")
    values: dict[str, Any] = {
        k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg in ("install_requires", "extras_require")
    }
    return values["install_requires"], values["extras_require"]


def requirements(extras: list[str], *, lowest: bool = False, source: str | None = None) -> list[str]:
    """The requirements of the package and these extras; :class:`KeyError` for an extra that is not there."""
    base, known = declared(SETUP.read_text() if source is None else source)
    if lowest:
        base = [re.sub(r">=\s*", "==", requirement) for requirement in base]
    return [*base, *(requirement for extra in extras for requirement in known[extra])]


def name_of(requirement: str) -> str:
    """The package that a requirement is about, as names are compared (PEP 503)."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def without(constraints: str, wanted: list[str]) -> str:
    """The constraints, but for the packages of these requirements, which say themselves what they want."""
    names = {name_of(requirement) for requirement in wanted}
    return "".join(f"{line}\n" for line in constraints.splitlines() if name_of(line) not in names)


def _write_launcher() -> None:
    """The command ``evmlb`` beside the python that runs this: the package is run from the checkout."""
    launcher = Path(sys.executable).parent / "evmlb"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m evmlb "$@"\n')
    launcher.chmod(0o755)


def main(arguments: list[str]) -> int:
    """Install; pip's exit status."""
    extras = [a for a in arguments if not a.startswith("-")]
    lowest = "--lowest" in arguments
    _write_launcher()
    install = [sys.executable, "-m", "pip", "install", "--quiet", *requirements(extras, lowest=lowest)]
    if "--newest" in arguments:
        return subprocess.call([*install, "--upgrade", "--upgrade-strategy", "eager"])
    text = CONSTRAINTS.read_text()
    if lowest:
        text = without(text, requirements([]))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        return subprocess.call([*install, "--constraint", file.name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
