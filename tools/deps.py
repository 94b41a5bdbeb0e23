"""Install what ``setup.py`` asks for, without the package itself.

``python tools/deps.py [--lowest | --newest] [extra ...]``, run by the python of the virtual environment to install
into.

From a checkout the package is run in place. An installed copy beside it would be found or not found depending on the
current directory, and its plugin would be found twice; so only dependencies are installed, and a real install
is the business of the plugin's own test. ``--lowest`` takes each ``>=`` of ``install_requires`` as ``==``;
``--newest`` is what a new environment gets anyway.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

SETUP = Path(__file__).resolve().parent.parent / "setup.py"


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


def main(arguments: list[str]) -> int:
    """Install; pip's exit status."""
    extras = [a for a in arguments if not a.startswith("-")]
    wanted = requirements(extras, lowest="--lowest" in arguments)
    return subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *wanted])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
