"""What of a request goes to no node: it is taken out, or refused, before routing sees it."""

from __future__ import annotations

from collections.abc import Callable

from evmlb.errors import METHOD_REFUSED, Refusal
from evmlb.exchange import Exchange
from evmlb.jsonrpc import Call
from evmlb.methods import REFUSED, UNSAFE
from evmlb.routing.effort import batch_of


def admit(exchange: Exchange, refuse: Callable[[Call], Refusal | None]) -> Refusal | None:
    """Take out of a batch what is no call, or is refused; the refusal of the whole when nothing is left to be asked.

    Each such member gets an error of its own (JSON-RPC 2.0, section 6), and the others go on. ``refuse`` says why a
    call goes to no node; what is of the class ``REFUSED`` and not refused by it is unsafe.
    """
    call = exchange.call
    if call is None or call.members is None:
        refusal = None if call is None else refuse(call)
        if exchange.klass is REFUSED:
            exchange.klass = UNSAFE
        return refusal
    members = [_admitted(member, refuse) for member in call.members]
    served = [member.klass for member in members if member.error is None]
    if len(served) == len(members) and REFUSED not in [member.klass for member in call.members]:
        return None
    exchange.klass = max(served, default=REFUSED)
    exchange.call = Call("batch", exchange.klass, b"", call.params, tuple(members))
    if len(served) == len(members):
        return None
    if not served:
        return METHOD_REFUSED  # not told: each member has an error of its own
    batch_of(exchange)
    return None


def _admitted(member: Call, refuse: Callable[[Call], Refusal | None]) -> Call:
    refusal = None if member.error is not None else refuse(member)
    if refusal is not None:
        return Call(member.method, REFUSED, member.id, member.params, error=(refusal.code, refusal.message))
    if member.klass is REFUSED and member.error is None:
        return Call(member.method, UNSAFE, member.id, member.params)
    return member
