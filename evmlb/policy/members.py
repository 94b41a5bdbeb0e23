"""What a batch needs of a node: all that its members need.

It goes by the highest block that any of them names, by every method that is among them, and by any member that may
show what its client sent a moment ago. A call by itself is looked at in the same way: it is its only member.

So many members are looked at, and no more; a longer batch is taken to need the chainhead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from evmlb.jsonrpc import Call

__all__ = ["MAX_MEMBERS_READ", "highest_block", "looked_at", "methods_of"]

MAX_MEMBERS_READ = 500
"""Half a millisecond's worth."""


def looked_at(call: Call) -> tuple[Call, ...]:
    """The members of a batch that are looked at; a call by itself."""
    return (call,) if call.members is None else call.members[:MAX_MEMBERS_READ]


def methods_of(call: Call) -> Iterable[str]:
    """The methods that a node must have to answer, and ``batch`` for a batch."""
    if call.members is None:
        return (call.method,)
    return {call.method, *(member.method for member in looked_at(call))}


def highest_block(call: Call, top: int, needed: Callable[[Call], int | None]) -> int | None:
    """The highest block that is ``needed`` by a call, or by any member of a batch; none above the chainhead ``top``.

    One that asks for what is not there yet says nothing of where the others can be answered.
    """
    if call.members is not None and len(call.members) > MAX_MEMBERS_READ:
        return top
    numbers = (needed(member) for member in looked_at(call))
    return max((number for number in numbers if number is not None and number <= top), default=None)
