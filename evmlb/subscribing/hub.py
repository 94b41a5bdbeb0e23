"""Who is subscribed to what in one network, and the parts that make the events.

A subscription's id is ours, 128 random bits; it ends when its client unsubscribes or leaves, and by nothing else: what
happens to nodes is made up for behind it. Only where that is impossible its client's connection is closed, with the
reason, so that nobody takes a chain with a hole for a whole one: when more blocks were missed than ``backfill_blocks``,
or when no node gives a block's logs.

While nobody is subscribed to blocks, none is asked for. The view runs on for a minute after the last one left: who
connects anew in that time can resume.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from evmlb.chain import parse_quantity
from evmlb.events import Events
from evmlb.interfaces import Subscriber, Upstream
from evmlb.jsonrpc import Call, Unreadable, read_value
from evmlb.network import Network
from evmlb.policy.changes import Change, Missed
from evmlb.policy.headers import read_header
from evmlb.policy.logfilter import InvalidFilter, LogFilter
from evmlb.policy.shares import Charge, Shares
from evmlb.subscribing.blocks import Blocks
from evmlb.subscribing.fanout import FanOut, Subscription
from evmlb.subscribing.feeds import Feed
from evmlb.subscribing.flow import LogSubscription
from evmlb.subscribing.logs import Logs
from evmlb.subscribing.nodes import Nodes
from evmlb.subscribing.params import HEADS, LOGS, InvalidParams, check_count, filter_of, read_params, take_resume
from evmlb.subscribing.relay import Refused
from evmlb.subscribing.topics import Topics

_log = Logger(namespace="evmlb.subscribing")

CUT_CODE = 1012
"""RFC 6455's registry: service restart; a client library connects anew."""
MOST_REASON_BYTES = 123
PATIENCE_SECONDS = 5.0
"""So long a subscription waits for the chain's head, or for the block that it resumes at, to become known."""
LINGER_SECONDS = 60.0
MAX_HEAD_BYTES = 1024 * 1024
"""A longer head is none: some nodes put the hashes of all transactions into it, which is 70 bytes each."""
SUBSCRIPTION_BYTES = 500
"""What a subscription without a filter takes of the memory for subscriptions."""
_SERVER_ERROR = -32000
_LIMIT_EXCEEDED = -32005
_INVALID_PARAMS = -32602


class _Refusal(Exception):
    """The client gets an error instead of a subscription."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Client:
    """What one client has: how to end each of its subscriptions, and those that are being made."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.ends: dict[str, Callable[[], None]] = {}
        self.making: set[Deferred[None]] = set()

    def count(self) -> int:
        """Let the subscriber know how many there are."""
        self.subscriber.subscriptions = len(self.ends) + len(self.making)
        return self.subscriber.subscriptions


class Hub:
    """The subscriptions of one network. ``feeds`` are those of the nodes that have a WebSocket.

    ``memory`` for subscriptions is shared by all clients of all networks: log filters may be large.
    ``cuts``: how many times clients were closed because something could not be made up for.
    """

    def __init__(
        self,
        network: Network,
        upstreams: Sequence[Upstream],
        reactor: Any,
        now: Callable[[], float],
        rng: random.Random,
        publish: Callable[[Events], None],
        memory: Shares,
    ) -> None:
        self._memory = memory
        self._network = network
        self._reactor = reactor
        self._now = now
        self._rng = rng
        self._publish = publish
        self.fanout = FanOut(reactor.callLater, now)
        nodes = Nodes(network, upstreams, reactor)
        self.blocks = Blocks(network, nodes, now, self._chain_changed, self._cut_all)
        self.logs = Logs(network, nodes, self.fanout, self.blocks.kept, self._cut)
        self.feeds: list[Feed] = []
        self._heads: dict[bytes, Subscription] = {}
        self._log_subscriptions: dict[bytes, LogSubscription] = {}
        self._topics = Topics(network, self.feeds, self.fanout, reactor, now)
        self._clients: dict[Subscriber, _Client] = {}
        self._making_of_blocks = 0
        self._idle_since = now()
        self.cuts = 0

    @property
    def told_height(self) -> int:
        """See ``Subscriptions``."""
        view = self.blocks.view
        return 0 if view is None or view.tip is None else view.tip.number

    # clients

    def subscribe(self, subscriber: Subscriber, call: Call) -> None:
        """See ``Subscriptions``."""
        if subscriber.subscriptions >= subscriber.max_subscriptions:
            words = f"more than {subscriber.max_subscriptions} subscriptions on one connection"
            subscriber.refuse(call.id, _LIMIT_EXCEEDED, words)
            return
        client = self._clients.setdefault(subscriber, _Client(subscriber))
        making = Deferred.fromCoroutine(self._make(client, call))
        if not making.called:  # rarely: something has to be asked first
            client.making.add(making)
            client.count()
        making.addBoth(self._made, client, making)

    def unsubscribe(self, subscriber: Subscriber, subscription_id: str) -> bool:
        """See ``Subscriptions``."""
        client = self._clients.get(subscriber)
        end = client.ends.pop(subscription_id, None) if client is not None else None
        if client is None or end is None:
            return False
        end()
        self._count(client)
        return True

    def gone(self, subscriber: Subscriber) -> None:
        """See ``Subscriptions``."""
        client = self._clients.pop(subscriber, None)
        if client is None:
            return
        ends, client.ends = client.ends, {}
        for end in ends.values():
            end()
        for making in tuple(client.making):
            making.cancel()
        client.count()

    def _count(self, client: _Client) -> None:
        if not client.count():
            self._clients.pop(client.subscriber, None)

    # making a subscription

    async def _make(self, client: _Client, call: Call) -> None:
        try:
            params = read_params(call.params)
            if params[0] in (HEADS, LOGS):
                await self._make_of_blocks(client, call.id, params)
            else:
                await self._make_relayed(client, call.id, params, self._charge(client, SUBSCRIPTION_BYTES))
        except (InvalidFilter, InvalidParams) as error:
            client.subscriber.refuse(call.id, _INVALID_PARAMS, str(error))
        except (_Refusal, Refused) as refusal:
            client.subscriber.refuse(call.id, refusal.code, refusal.message)

    def _made(self, outcome: Failure | None, client: _Client, making: Deferred[None]) -> None:
        client.making.discard(making)
        if outcome is not None and not outcome.check(defer.CancelledError):
            _log.failure("a subscription could not be made", outcome)
        if self._clients.get(client.subscriber) is client:
            self._count(client)

    def _charge(self, client: _Client, size: int) -> Charge:
        """Memory for a subscription, in the client's share. Raises :class:`_Refusal`."""
        charge = self._memory.charge(client.subscriber.client, size)
        if charge is None:
            whose = "this client's" if self._memory.left >= size else "all clients'"
            words = f"{whose} subscriptions take too much memory: ask for less, or filter by fewer addresses and topics"
            raise _Refusal(_LIMIT_EXCEEDED, words)
        return charge

    def _add(
        self, client: _Client, call_id: bytes, made: Subscription, charge: Charge, end: Callable[[], object]
    ) -> None:
        """The subscription stands: its client hears of it before anything else."""

        def ended() -> None:
            made.is_active = False
            charge.release()
            end()

        client.ends[made.id.decode()] = ended
        client.count()
        client.subscriber.reply(call_id, b'"%b"' % made.id)

    def _new_id(self) -> str:
        return f"0x{self._rng.getrandbits(128):032x}"

    # heads and logs

    async def _make_of_blocks(self, client: _Client, call_id: bytes, params: list[Any]) -> None:
        resume = take_resume(params)
        check_count(params)
        log_filter = filter_of(params) if params[0] == LOGS else None
        charge = self._charge(client, SUBSCRIPTION_BYTES if log_filter is None else log_filter.held_bytes)
        self._making_of_blocks += 1
        is_made = False
        try:
            missed = await self._missed(resume)
            is_made = client.subscriber.is_open
        finally:
            self._making_of_blocks -= 1
            self._idle_since = self._now()
            if not is_made:
                charge.release()
        if not is_made:
            return
        if log_filter is None:
            self._add_heads(client, call_id, charge, missed)
        else:
            self._add_logs(client, call_id, log_filter, charge, missed)

    def _add_heads(self, client: _Client, call_id: bytes, charge: Charge, missed: Missed | None) -> None:
        made = Subscription(self._new_id(), client.subscriber)
        self._heads[made.id] = made
        self._add(client, call_id, made, charge, lambda: self._heads.pop(made.id, None))
        if missed is not None:
            self.fanout.tell(HEADS, (made,), *(header.sent for header in missed.added))

    def _add_logs(
        self, client: _Client, call_id: bytes, log_filter: LogFilter, charge: Charge, missed: Missed | None
    ) -> None:
        made = LogSubscription(self._new_id(), client.subscriber, log_filter)
        self._log_subscriptions[made.id] = made

        def end() -> None:
            del self._log_subscriptions[made.id]
            self.logs.leave(made)

        self._add(client, call_id, made, charge, end)
        self.logs.join(made, missed)

    async def _missed(self, resume: str | int | None) -> Missed | None:
        """What a client has missed, None if it does not come back. Waits for the view to begin.

        So what a node has as its head when a client is answered is never above what the client will be told.
        """
        self._start_blocks()
        until = self._now() + PATIENCE_SECONDS
        while True:
            view = self.blocks.view
            if view is not None and view.tip is not None:
                missed = None if resume is None else view.resume(resume, self._network.config.resume_blocks)
                if resume is None or (missed is not None and not _is_ahead(missed)):
                    return missed
            left = until - self._now()
            if left <= 0:
                raise self._not_known(resume)
            await self.blocks.news(left)

    def _not_known(self, resume: str | int | None) -> _Refusal:
        if resume is None or self.blocks.view is None or self.blocks.view.tip is None:
            return _Refusal(_SERVER_ERROR, "no node of this network tells the head of the chain")
        bound = self._network.config.resume_blocks
        words = f"cannot resume: the block is not known, or more than {bound} blocks back (resume_blocks)"
        return _Refusal(_INVALID_PARAMS, words)

    def _start_blocks(self) -> None:
        if self.blocks.view is None:
            self.blocks.start()
            for feed in self.feeds:
                feed.is_news = feed.pushed is not None and (_number_of(feed.pushed) or 0) >= (feed.node.head or 0)
                self._observe_pushed(feed)
            self._look_at_polls()

    def _chain_changed(self, change: Change) -> None:
        for header in change.added:
            self._network.recent.record(header.hash, header.number)
        heads = tuple(self._heads.values())
        self.fanout.tell(HEADS, heads, *(header.sent for header in change.added))
        self.logs.observe(change)

    # ends

    def _cut_all(self) -> None:
        """More was missed than can be made up for: say so, rather than leave a hole."""
        bound = self._network.config.backfill_blocks
        words = f"more than {bound} blocks were missed; subscribe again"
        self._cut((*self._heads.values(), *self._log_subscriptions.values()), words)

    def _cut(self, subscriptions: Iterable[Subscription], words: str) -> None:
        clients = {each.subscriber: None for each in subscriptions}
        if not clients:
            return
        self.cuts += 1
        text = "{network}: {clients} clients are closed: {words}"
        _log.warn(text, network=self._network.name, clients=len(clients), words=words)
        for subscriber in clients:
            self.gone(subscriber)  # first: nothing comes after the gap
            subscriber.close(CUT_CODE, words[:MOST_REASON_BYTES])

    def _rest_if_idle(self) -> None:
        if self._heads or self._log_subscriptions or self._making_of_blocks:
            self._idle_since = self._now()
        elif self.blocks.view is not None and self._now() - self._idle_since >= LINGER_SECONDS:
            self._stop_blocks()

    def _stop_blocks(self) -> None:
        self.blocks.stop()
        self.logs.stop()

    def stop(self) -> None:
        """At the end of everything."""
        for subscriber in tuple(self._clients):
            self.gone(subscriber)
        self._stop_blocks()
        self.fanout.stop()

    # other topics

    async def _make_relayed(self, client: _Client, call_id: bytes, params: list[Any], charge: Charge) -> None:
        made = Subscription(self._new_id(), client.subscriber)

        def add() -> None:
            self._add(client, call_id, made, charge, lambda: self._topics.leave(made))

        try:
            await self._topics.join(params, made, add)
        finally:
            if made.id.decode() not in client.ends:
                charge.release()

    # nodes

    def feed_came(self, feed: Feed) -> None:
        """A node's WebSocket stands: its heads are wanted, and it may feed what nobody else does."""
        feed.subscribe([HEADS], lambda result: self._take_head(feed, result)).addErrback(lambda _: None)
        self._topics.came(feed)

    def feed_went(self, feed: Feed) -> None:
        """It is lost: polls tell of the node from now on, if it still lives."""
        self._topics.lost(feed)

    def _take_head(self, feed: Feed, result: bytes) -> None:
        """A node pushed a head."""
        number = _number_of(result)
        if number is None:
            return
        feed.pushed, feed.is_news = result, True
        if feed.node in self._network.order.candidates:
            self._publish(self._network.observe_push(feed.node, number, self._now()))
        self._observe_pushed(feed)

    def _observe_pushed(self, feed: Feed) -> None:
        """Tell of the head that a node pushed last, if it was not told of yet."""
        if self.blocks.view is None or feed.pushed is None or not feed.is_news:
            return
        header = read_header(_value_of(feed.pushed))
        feed.is_news = header is not None and not self.blocks.observe_head(feed.node, header)

    def look(self) -> None:
        """The network changed, or a second has passed: take note of who may serve now, and of what polls have told."""
        if self.blocks.view is not None:
            for node in self._network.nodes:
                if node not in self._network.order.candidates:
                    self.blocks.forget(node)
            for feed in self.feeds:
                self._observe_pushed(feed)  # again: a head that was ahead of its time may be believed now
            self._look_at_polls()
        self._topics.look()
        self._rest_if_idle()

    def _look_at_polls(self) -> None:
        pushing = {feed.node for feed in self.feeds if feed.pushed is not None}
        for node in self._network.order.candidates:
            if node.head is not None:
                self.blocks.observe_number(node, node.head, pushes=node in pushing)

    @property
    def gaps_possible(self) -> int:
        """How many times events of a topic that nodes feed may have been missed."""
        return self._topics.gaps_possible

    @property
    def counts(self) -> dict[str, int]:
        """Subscriptions by kind, for the metrics."""
        return {HEADS: len(self._heads), LOGS: len(self._log_subscriptions), "other": len(self._topics)}


def _is_ahead(missed: Missed) -> bool:
    """Whether a block is no abandoned one, but on top of what we have told: it will come."""
    return bool(missed.removed) and not missed.added


def _number_of(result: bytes) -> int | None:
    """The number of a head."""
    value = _value_of(result)
    return parse_quantity(value.get("number")) if isinstance(value, dict) else None


def _value_of(head: bytes) -> object:
    """A head; None for what is none."""
    try:
        return read_value(head, max_bytes=MAX_HEAD_BYTES)
    except Unreadable:
        return None
