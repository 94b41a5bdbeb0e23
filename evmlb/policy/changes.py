"""What :mod:`evmlb.policy.chainview` says: what to tell subscribers, what is needed, whose word was dropped."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from evmlb.policy.headers import Header


class Wanted(NamedTuple):
    """A block that is needed. The caller answers each by :meth:`ChainView.fetched` or :meth:`ChainView.fetch_failed`.

    ``number`` is the highest that it can have: chains may skip some. Below it, down to the number ``down_to``, others
    are probably needed too, whose hashes are not known yet. The caller may fetch some of them by number at the same
    time and give them to the same :meth:`ChainView.fetched`: those that turn out to be linked save a round trip each,
    the others do no harm. ``is_history`` is not urgent.
    """

    hash: str
    number: int
    down_to: int
    is_history: bool = False


class Why(enum.Enum):
    """Why a source's word was dropped. The values are for logs."""

    CONFLICT = "it announced another block under a hash that is known"
    NUMBER = "its block's number is not above that of the block's parent"
    UNFETCHED = "the ancestors of its head could not be had"


class Refuted(NamedTuple):
    """A source whose head was dropped; it has no voice until it announces another one.

    ``UNFETCHED`` is no proof of a lie, and the other two may be another node's fault: one alone is no reason to punish.
    """

    source: Hashable
    head: Header
    why: Why


@dataclass(frozen=True, slots=True)
class Change:
    """What follows from one fact. A subscriber takes back ``removed`` and then takes ``added``.

    ``removed`` has the abandoned blocks, newest first, ``added`` the new ones, oldest first; the parent of the first
    added is the block before the last removed one. ``too_far``: the view has started anew at :attr:`ChainView.tip`,
    with a gap before it; then both are empty.
    """

    wanted: tuple[Wanted, ...] = ()
    removed: tuple[Header, ...] = ()
    added: tuple[Header, ...] = ()
    too_far: bool = False
    refuted: tuple[Refuted, ...] = ()


class Missed(NamedTuple):
    """What a client that comes back has to take back (newest first), and then to take (oldest first)."""

    removed: tuple[Header, ...]
    added: tuple[Header, ...]


NOTHING = Change()
