"""Count what a trial run says of itself: ``python tools/trial_result.py OUTPUT`` prints ``passed failed skipped``.

Trial's closing line has the counts (``FAILED (failures=1, successes=7)``). A test that was skipped because a real
part is missing proves nothing, so it counts as failed; other skips count as neither. A run without a closing line
broke off: one failure.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MISSING = "part missing:"
"""How the reason of a skip begins that must not be."""

_CLOSING = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?\s*$", re.MULTILINE)
_SKIPPED = re.compile(r"^\[SKIPPED\]\n(.*?)(?=^=====|^-----)", re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"^[\w.]+\.test_\w+$", re.MULTILINE)


def count(output: str) -> tuple[int, int, int]:
    """Tests passed, failed, and skipped for an accepted reason."""
    closing = _CLOSING.findall(output)
    if not closing:
        return 0, 1, 0
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", closing[-1])}
    missing = sum(len(_TEST.findall(block)) for block in _SKIPPED.findall(output) if MISSING in block)
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    return passed, failed + missing, counts.get("skips", 0) - missing


if __name__ == "__main__":
    print(*count(Path(sys.argv[1]).read_text(errors="replace")))
