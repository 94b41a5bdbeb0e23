"""Check the documentation: ``python -m tools.check_docs`` from the repository's root.

* a relative link leads to a file that is there, and its anchor to a heading;
* an example in YAML or JSON can be read, one in Python compiles;
* an example that is a whole configuration (it has ``networks:``) is one that evmlb accepts.

An example with ``...`` in it is a fragment, one with ``${`` depends on the environment: those are only read. A fence
whose words say ``wrong`` (three backticks, ``yaml wrong``) shows a mistake and is not checked.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from evmlb.config.parse import ConfigError, parse

ROOT = Path(__file__).resolve().parent.parent

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z]+:")


def pages() -> list[Path]:
    """Every page: those in the root and those under ``docs/``."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        repeated = sum(1 for anchor in found if anchor == plain or re.fullmatch(re.escape(plain) + r"-\d+", anchor))
        found.add(f"{plain}-{repeated}" if repeated else plain)
    return found


def link_faults(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for target in _LINK.findall(_CODE.sub("", _FENCE.sub("", text))):
        path, _, anchor = target.partition("#")
        if _ELSEWHERE.match(target):
            continue
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists():
            yield f"the link {target} leads to no file"
        elif anchor and goal.suffix == ".md" and anchor not in anchors(goal.read_text()):
            yield f"the link {target} leads to no heading"


def example_faults(text: str) -> Iterator[str]:
    """The examples of a page that cannot be used."""
    for match in _FENCE.finditer(text):
        indent, words, code = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        language, _, rest = words.strip().partition(" ")
        if "wrong" not in rest.split():
            fault = example_fault(language, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE))
            if fault:
                yield f"line {line}: {fault}"


def example_fault(language: str, code: str) -> str | None:
    """What is wrong with one example, or ``None``."""
    if "..." in code:
        return None
    try:
        if language in ("yaml", "yml"):
            _check_yaml(code)
        elif language == "json":
            json.loads(code)
        elif language in ("python", "py"):
            ast.parse(code)
    except (ValueError, SyntaxError, yaml.YAMLError, ConfigError) as error:
        return f"the example cannot be used: {error}"
    return None


def _check_yaml(code: str) -> None:
    content = yaml.safe_load(code)
    if isinstance(content, dict) and "networks" in content and "${" not in code:
        parse(code, {})


def main() -> int:
    """Print every fault; 1 when there is one."""
    count = 0
    for page in pages():
        text = page.read_text()
        for fault in (*link_faults(page, text), *example_faults(text)):
            print(f"{page.relative_to(ROOT)}: {fault}")
            count += 1
    print(f"{len(pages())} pages, {count} faults")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
