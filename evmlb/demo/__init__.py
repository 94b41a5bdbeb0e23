"""A simulated chain and the nodes that serve it: for newcomers, and for tests.

==============  ==================================================================================
module          what it holds
==============  ==================================================================================
``blocks``      blocks, transactions, logs as values, their hashes and their JSON
``chain``       the chain: mines, reorganises, and shows itself as it was some blocks ago
``methods``     what each JSON-RPC method answers
``rpc``         JSON-RPC over a view of the chain, in geth's words
``faults``      what can be wrong with a node, and the bytes a client then sees
``schedule``    which fault holds at which second
``exporter``    a node-exporter page
``node``        one node on a port (Twisted)
``world``       chain and three nodes together, misbehaving on a schedule (Twisted)
``show``        that world with the balancer in front of it: ``evmlb demo``
==============  ==================================================================================

Only the last three know Twisted. But for ``show``, nothing here imports the balancer: it meets these nodes over a
socket, as it meets any other.
"""
