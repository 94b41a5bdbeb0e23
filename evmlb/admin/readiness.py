"""Whether requests should be sent here: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from evmlb.network import Network

FIRST_ROUND_SECONDS = 3.0
"""So long after the start a network that has not heard of all its nodes holds nothing up any more."""


class Readiness:
    """What the probes answer by. Set ``draining`` when the end begins; nothing takes that back.

    The whole is ready once each network has heard of all its nodes, or 3 s passed since ``started_at``, and while some
    network can serve. So one network whose nodes are all down takes no client of another one's away.
    """

    def __init__(self, networks: Iterable[Network], started_at: float) -> None:
        self.networks = {network.name: network for network in networks}
        self.started_at = started_at
        self.draining = False

    def check(self, now: float) -> tuple[bool, str]:
        """Whether this instance is ready, and why or why not, in words."""
        if self.draining:
            return False, "shutting down"
        waited = now - self.started_at >= FIRST_ROUND_SECONDS
        waiting = [network.name for network in self.networks.values() if not network.rounds_complete]
        if waiting and not waited:
            return False, f"first polls are under way: {', '.join(waiting)}"
        serving = [network.name for network in self.networks.values() if network.order.candidates]
        if not serving:
            return False, "no network can serve"
        return True, f"serving: {', '.join(serving)}"

    def check_network(self, name: str, now: float) -> tuple[bool, str]:
        """The same of one network, strictly: it has started and can serve. Raises :class:`KeyError` for no network."""
        network = self.networks[name]
        if self.draining:
            return False, "shutting down"
        order = network.order
        if not order.candidates:
            return False, order.refusal or "nobody can serve"
        if not network.started:
            return False, "no node of the preferred role has answered a poll yet"
        return True, f"{order.tier.value if order.tier else 'no'} nodes serve"
