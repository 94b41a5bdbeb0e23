"""The tests; what they need of test parts is in :mod:`tests.support`.

py_ecc, which eth_account and web3 import, raises the recursion limit of the whole process to 100,000. With that, deeply
nested input ends the interpreter in place of a RecursionError. So it is imported here, once, and undone.
"""

import sys

_limit = sys.getrecursionlimit()
import py_ecc  # noqa: E402, F401

sys.setrecursionlimit(_limit)
