"""The addresses of a host: looked up in the background, the last good answer kept.

A request never waits for a name that was known before: a resolver that fails or hangs leaves the old addresses in
place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from zope.interface import implementer

REFRESH_SECONDS = 30.0


class Addresses:
    """The addresses of one host. ``known`` is empty until the first look-up succeeded."""

    def __init__(self, reactor: Any, host: str, now: Callable[[], float]) -> None:
        self._reactor = reactor
        self._host = host
        self._now = now
        self._asked_at = float("-inf")
        self._looking = False
        self._waiting: list[Deferred[tuple[str, ...]]] = []
        self.known: tuple[str, ...] = (host,) if _is_address(host) else ()
        self._fixed = bool(self.known)

    def refresh_when_due(self) -> None:
        """Look the name up again if the last look-up began more than ``REFRESH_SECONDS`` ago."""
        if not self._fixed and self._now() - self._asked_at >= REFRESH_SECONDS:
            self._look_up()

    def get(self) -> Deferred[tuple[str, ...]]:
        """Fire with the addresses, at once when they are known; an empty tuple when the look-up found none."""
        waiting: Deferred[tuple[str, ...]] = Deferred(self._forget)
        if self.known:
            self.refresh_when_due()
            waiting.callback(self.known)
            return waiting
        self._waiting.append(waiting)
        if not self._looking or self._now() - self._asked_at >= REFRESH_SECONDS:
            self._look_up()  # one at a time: each that hangs holds a thread
        return waiting

    def _forget(self, waiting: Deferred[tuple[str, ...]]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _look_up(self) -> None:
        self._asked_at = self._now()
        self._looking = True
        self._reactor.nameResolver.resolveHostName(_Receiver(self._resolved), self._host)

    def _resolved(self, found: tuple[str, ...]) -> None:
        self._looking = False
        if found:
            self.known = found
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self.known)


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects one look-up."""

    def __init__(self, done: Callable[[tuple[str, ...]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)) and address.host not in self._found:
            self._found.append(address.host)

    def resolutionComplete(self) -> None:
        self._done(tuple(self._found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
