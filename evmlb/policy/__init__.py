"""Decisions, apart from the world: facts and the time come in, a value with its reasons goes out.

:mod:`.heads` says how far the chain is, :mod:`.chain_id` which chain it is, :mod:`.health` what polls and failures
say of a node, :mod:`.breaker` when failing requests take it out and how it comes back, :mod:`.ratelimit` and
:mod:`.bucket` how often it may be asked, :mod:`.latency` how fast it is, :mod:`.ranking` and :mod:`.selection` who
serves and in what order, :mod:`.balancing` who of those is asked first. :mod:`.verdicts` says what an answer means,
:mod:`.nulls` and :mod:`.blocks` what a call and its null do, :mod:`.affinity` where a filter is held. :mod:`.pace` and
:mod:`.budget` bound what is sent more than once, :mod:`.priority` and :mod:`.shedding` who waits and for how long.
"""
