r"""Deterministic simulation: the whole balancer on a virtual clock, among simulated nodes, clients and faults.

One *run* follows from one number, its seed: the configuration, what befalls which node when, what every client asks,
how bytes are cut and delayed. Nothing else comes in, so a run that fails, fails again::

    scenario (drawn from the seed) -> simulation -> outcome (violated invariants, trace, digest)

    client --\                                            /-- node --\
    client ---> memory network -> Balancer -> memory network -- node ---> truth
    client --/                                            \-- node --/

Everything between the two networks is the product as it runs in production, but for sockets and the admin port.
``docs/explanation/simulation.md`` tells what is promised and what is left out.
"""
