"""One limit that all clients share, and how much of it one client may have: no Twisted, no clock.

Theory. A limit without shares is used up by whoever asks most, and then refuses everybody else. A fixed share per
client either wastes the limit while few are there, or adds up to more than it. So the share follows from what is left:
a client may hold as much as is free, not more::

    held + amount <= max(left - amount, least)      or nothing is held yet; and there is room in any case

One greedy client ends at half of the limit, two at a third each, *n* at the *n* + 1st part; as much is always left for
those who hold nothing, and who comes with a single wish gets it while there is room. Nothing is configured, nobody is
counted in advance, and what is given back is at once there for all. ``least`` is what a single wish may amount to when
it comes in parts. (Switches share their buffers so: Choudhury and
Hahne, "Dynamic queue length thresholds", 1998.)

A client is what its key says: an address, as trusted proxies tell it. Who speaks for many (a proxy that names nobody)
may be left unbound.
"""

from __future__ import annotations


class Shares:
    """See the module's head. ``total``: in bytes, connections, or whatever is shared; ``left``: so much is free."""

    __slots__ = ("_held", "_least", "left", "total")

    def __init__(self, total: int, least: int = 0) -> None:
        self._least = least
        self.total = total
        self.left = total
        self._held: dict[str, int] = {}

    def take(self, client: str, amount: int = 1, *, bound: bool = True) -> bool:
        """Whether the client may have so much more; it counts until it is given back. ``bound`` False: no share."""
        left = self.left - amount
        held = self._held.get(client, 0)
        if left < 0 or (bound and held and held + amount > max(left, self._least)):
            return False
        self.left = left
        if amount:
            self._held[client] = held + amount
        return True

    def give_back(self, client: str, amount: int = 1) -> None:
        """What the client took is free again, or a part of it."""
        if not amount:
            return
        held = self._held[client] - amount
        if held < 0:
            raise ValueError(f"{client} gives back {-held} more than it has")
        self.left += amount
        if held:
            self._held[client] = held
        else:
            del self._held[client]

    def charge(self, client: str, amount: int = 1) -> Charge | None:
        """The same as :meth:`take`, for what is given back all at once; None where it is not to be had."""
        return Charge(self, client, amount) if self.take(client, amount) else None

    def held(self, client: str) -> int:
        """What the client has."""
        return self._held.get(client, 0)

    def __len__(self) -> int:
        """How many clients have anything."""
        return len(self._held)


class Charge:
    """What a client has of a limit. It is free again with the first :meth:`release`."""

    __slots__ = ("_amount", "_client", "_shares")

    def __init__(self, shares: Shares, client: str, amount: int) -> None:
        self._shares = shares
        self._client = client
        self._amount = amount

    def release(self) -> None:
        """Give it back, once."""
        amount, self._amount = self._amount, 0
        self._shares.give_back(self._client, amount)
