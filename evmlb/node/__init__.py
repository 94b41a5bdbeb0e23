"""One node's facts together.

A :class:`Node` takes in what was seen of it and answers two questions: may it serve (:meth:`Node.candidate_for`), and
does it want to be told of successes too (``troubled``). What it means for the network is :mod:`evmlb.network`'s to say.
:mod:`.telling` makes events of what flips, :mod:`.facts` a mapping for people to read.
"""

from evmlb.node.facts import facts_of
from evmlb.node.node import Node
from evmlb.node.poll import Poll

__all__ = ["Node", "Poll", "facts_of"]
