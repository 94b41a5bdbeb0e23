"""Subscriptions that belong to us: a client's survives the node that fed it.

    hub ---- who is subscribed to what; ids are ours, for the life of the client's connection
     |-- blocks   one hash-linked view of the chain, fed by all nodes: each head once, in order, reorgs undone
     |-- logs     for each block of the view the logs that some filter matches, and their removal
     |-- relay    every other topic: passed to nodes, and taken up elsewhere when one is lost
     '-- fanout   an event, made once, to all who wait for it

The view itself is pure (:mod:`evmlb.policy.chainview`), and so is the matching of logs (:mod:`evmlb.policy.logfilter`):
here is what asks nodes for what is missing, and what is told to clients.
"""

from evmlb.subscribing.hub import Hub

__all__ = ["Hub"]
