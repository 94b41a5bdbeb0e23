"""The addresses of a host, looked up in the background."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.wire.names import REFRESH_SECONDS, Addresses


class Resolver:
    """A reactor's name resolver; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    @property
    def nameResolver(self) -> Resolver:
        return self

    def resolveHostName(self, receiver: Any, host: str) -> None:
        self.asked.append((host, receiver))

    def answer(self, *addresses: Any, place: int = -1) -> None:
        _, receiver = self.asked[place]
        receiver.resolutionBegan(None)
        for address in addresses:
            kind = IPv6Address if isinstance(address, str) and ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, 0) if isinstance(address, str) else address)
        receiver.resolutionComplete()


class AddressesTests(SynchronousTestCase):
    def make(self, host: str = "node.test") -> Addresses:
        self.clock = Clock()
        self.resolver = Resolver()
        return Addresses(self.resolver, host, self.clock.seconds)

    def test_address_needs_no_look_up(self) -> None:
        """An address is its own answer, for ever."""
        for host in ("127.0.0.1", "::1", "fe80::1%eth0"):
            addresses = self.make(host)
            self.assertEqual(self.successResultOf(addresses.get()), (host,))
            self.clock.advance(1000)
            addresses.refresh_when_due()
            self.assertEqual(self.resolver.asked, [])

    def test_first_look_up(self) -> None:
        """Until a name is known those who ask wait, for one look-up together."""
        addresses = self.make()
        first, second = addresses.get(), addresses.get()
        self.assertEqual([host for host, _ in self.resolver.asked], ["node.test"])
        self.assertNoResult(first)
        self.resolver.answer("::1", "127.0.0.1", "127.0.0.1", UNIXAddress("/x"))
        for waiting in (first, second, addresses.get()):
            self.assertEqual(self.successResultOf(waiting), ("::1", "127.0.0.1"))
        self.assertEqual(len(self.resolver.asked), 1)

    def test_refresh(self) -> None:
        """A known name is looked up again every 30 s, and nobody waits for that."""
        addresses = self.make()
        addresses.get()
        self.resolver.answer("1.1.1.1")
        self.clock.advance(REFRESH_SECONDS - 1)
        addresses.refresh_when_due()
        self.assertEqual(len(self.resolver.asked), 1)
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(addresses.get()), ("1.1.1.1",))
        addresses.refresh_when_due()
        self.assertEqual(len(self.resolver.asked), 2)
        self.resolver.answer("2.2.2.2")
        self.assertEqual(self.successResultOf(addresses.get()), ("2.2.2.2",))

    def test_last_good_answer(self) -> None:
        """A look-up that fails, or never ends, leaves the last good answer in place, and is tried again."""
        addresses = self.make()
        addresses.get()
        self.resolver.answer("1.1.1.1")
        for times in range(2, 5):
            self.clock.advance(REFRESH_SECONDS + 1)
            addresses.refresh_when_due()
            self.assertEqual(len(self.resolver.asked), times)
            if times == 3:
                self.resolver.answer()
            self.assertEqual(self.successResultOf(addresses.get()), ("1.1.1.1",))

    def test_unknown_name(self) -> None:
        """A name that is not known gives no address, and the next who asks has it looked up again."""
        addresses = self.make()
        waiting = addresses.get()
        self.resolver.answer()
        self.assertEqual(self.successResultOf(waiting), ())
        again = addresses.get()
        self.resolver.answer("1.1.1.1")
        self.assertEqual(self.successResultOf(again), ("1.1.1.1",))

    def test_cancelled(self) -> None:
        """Who gave up waiting is not told; the answer is kept all the same."""
        addresses = self.make()
        waiting = addresses.get()
        waiting.cancel()
        self.failureResultOf(waiting)
        self.resolver.answer("1.1.1.1")
        self.assertEqual(addresses.known, ("1.1.1.1",))

    def test_hanging_resolver(self) -> None:
        """A resolver that hangs is not asked once more by every request that gives up on it."""
        addresses = self.make()
        for _ in range(20):
            addresses.get().addErrback(lambda _: None).cancel()
            self.clock.advance(0.1)
        self.assertLessEqual(len(self.resolver.asked), 2)
        waiting = addresses.get()
        self.resolver.answer("1.1.1.1", place=0)
        self.assertEqual(self.successResultOf(waiting), ("1.1.1.1",))
