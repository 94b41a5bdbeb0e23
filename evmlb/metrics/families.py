"""The table of families: each with its name, its help, its labels, and how to read its samples.

A gauge of a node is there once its value is known. Counters are there from the start where their labels are known, with
0, so that the first step shows in a rate.
"""

from __future__ import annotations

from evmlb.metrics.original import ORIGINAL
from evmlb.metrics.own import OWN
from evmlb.metrics.page import Family
from evmlb.metrics.process import PROCESS
from evmlb.metrics.remedies import REMEDIES
from evmlb.metrics.websocket import WEBSOCKET

FAMILIES: tuple[Family, ...] = (*ORIGINAL, *OWN, *REMEDIES, *WEBSOCKET, *PROCESS)
"""All of them, in the order of the page."""
