"""Decisions, apart from the world: facts and the time come in, a value with its reasons goes out.

:mod:`.heads` says how far the chain is, :mod:`.chain_id` which chain it is, :mod:`.health` what polls and failures
say of a node, :mod:`.trials` when a node that failed requests gets another one, :mod:`.latency` how fast it is,
:mod:`.ranking` and :mod:`.selection` who serves and in what order, :mod:`.balancing` who of those is asked first.
"""
