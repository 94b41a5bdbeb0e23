"""The tests; what they need of test parts is in :mod:`tests.support`.

py_ecc, which eth_account and web3 import, raises the recursion limit of the whole process to 100,000. With that, deeply
nested input ends the interpreter in place of a RecursionError. So it is imported here, once, and undone.

Properties are tried on the same examples in every run, so that a change is judged by what it changes. ``make fuzz``
looks for new ones (``EVMLB_FUZZ=1``): what it finds becomes a test of its own.
"""

import os
import sys

from hypothesis import settings

_limit = sys.getrecursionlimit()
import py_ecc  # noqa: E402, F401

sys.setrecursionlimit(_limit)

settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("new", print_blob=True)
settings.load_profile("new" if os.environ.get("EVMLB_FUZZ") else "same")
