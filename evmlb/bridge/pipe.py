"""A pipe: one client's WebSocket joined to one node's, byte by byte, and what becomes of one when the other ends.

The node is asked first (:mod:`.search`), and its 101 is the client's: subprotocol, extensions and messages are between
the two. Nothing is read but where frames end (:mod:`.boundaries`), because a close frame of ours may only stand between
two frames of theirs.

====================================  ========================================  =========================
what happens                          what the other end sees                   who is blamed
====================================  ========================================  =========================
a close frame of the node's           the same frame                            1011 to 1014: the node
the node ends without one             1001 "unexpected EOF"; in the middle of   the node
                                      a frame its connection is cut
a close frame of the client's         the same frame                            nobody
the client ends without one           1001                                      nobody
the client breaks the rules           1001 (the client: 1002, 1008, 1009)       nobody
the client does not read              1001 (the client: 1013, or cut)           nobody
the node does not read                1001                                      the node
evmlb stops                           1001, both, at the end of a frame         nobody
====================================  ========================================  =========================

Blame is *suspect*, no more: what a client sends can bring a connection down. Once a close frame has passed, its sender
is not heard any more; when the client has had its goodbye, and has answered or gone, both connections end. Whatever
takes longer than ``CLOSE_SECONDS`` to end is cut.

What a client says is read before the node sees it (:mod:`.sieve`): a method that clients may not call is answered here,
by an error, and so is a call that the node has no room for (:mod:`.load`). The answer is put between two messages of
the node's. Other messages pass as the frames they came in, once they are whole; what is no call passes, too, if no node
could take it for one.

Who reads slowly makes us read slowly from the other side, so that a pipe holds what the two transports like to hold
(64 KiB each, and one read), however much passes, and one message of the client's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evmlb.bridge.boundaries import close_frame
from evmlb.bridge.frames import text_header
from evmlb.bridge.handshake import KEY, answer, extra_of, headers_of, pairs
from evmlb.bridge.keeper import Keeper
from evmlb.bridge.load import Load
from evmlb.bridge.search import Nodes, Search
from evmlb.bridge.side import Side
from evmlb.bridge.sieve import Breach, Message, Sieve
from evmlb.errors import ALL_FULL, INVALID_REQUEST, Refusal
from evmlb.interfaces import Upgrade
from evmlb.jsonrpc import Call, InvalidCall, error_body, may_be_a_call, parse_call
from evmlb.network import Node

CLOSE_SECONDS = 10.0
"""How long both ends together may take to end, once one has begun to."""
EARLY_BYTES = 65536
"""So much of what a client sends before it is answered is kept; more waits in the kernel."""
_NODES_OWN = range(1011, 1015)
"""Close codes by which a node says that something is wrong with itself, or with what is behind it."""
_UNCLEAN = 1006
_FULL = ALL_FULL.saying("the node is at its limit of requests")
_STOPPING = Refusal(503, -32011, "evmlb is stopping; try again", 1)


class Pipe(Side):
    """A client's connection with a node's behind it: a ``ClientSocket``, and its own side of the pipe.

    ``entropy`` gives so many random bytes: what we send to a node has to be masked. ``error_status``: as configured.
    """

    is_idle = False  # when evmlb stops, the bridge says when it is closed

    def __init__(
        self,
        keeper: Keeper,
        upgrade: Upgrade,
        nodes: Nodes,
        entropy: Callable[[int], bytes],
        error_status: int | None = None,
    ) -> None:
        super().__init__(None, None)
        self.upgrade = upgrade
        self.leave_at: float | None = None  # when evmlb stops: the time to go
        self.is_leaving = False  # with the end of the frame that is being passed on
        self.is_alive = False  # something came since the last look
        self._keeper = keeper
        self._nodes = nodes
        self._entropy = entropy
        self._error_status = error_status
        self._search: Search | None = None
        self._node: Node | None = None
        self._far: Side | None = None  # the node's side
        self._early = b""  # sent before the client was answered
        self._closing_at: float | None = None
        self._active_at = keeper.now()
        self._code: int | None = None  # of the first close frame
        self._sieve = Sieve(keeper.config.max_message_bytes)
        self._held_bytes = 0  # of the memory for requests
        self._partial: tuple[float, int] | None = None  # since when a message is not whole, and which one
        self._load: Load | None = None
        self._owed = b""  # answers of ours that wait for the end of a message of the node's

    # the search for a node

    def open(self, transport: Any, rest: bytes) -> None:
        """See ``ClientSocket``: look for a node."""
        self.transport = transport
        transport.registerProducer(self, True)
        self._early = rest
        upgrade, head = self.upgrade, self.upgrade.head
        forwarded = pairs(upgrade.forwarded_for)
        search = Search(self._nodes, self, extra_of(head), headers_of(upgrade), forwarded, head.value(KEY))
        self._search = search
        search.begin()

    def found(self, node: Node, transport: Any, head: bytes) -> Side:
        """A node took the handshake: join the two."""
        self._search, self._node = None, node
        self._load = self._nodes.load(node)
        far = self._far = Side(self, transport)
        transport.registerProducer(far, True)
        self._keeper.opened(self)
        self._active_at = self._keeper.now()
        self.transport.write(head)
        early, self._early = self._early, b""
        if early:
            self._take(early)
        self.hold(far.stuffed_at is not None)
        return far

    def not_found(self, refusal: Refusal) -> None:
        """No node did: say so, in HTTP, and close."""
        self._search, self._early = None, b""
        self._closing_at = self._keeper.now()
        self.transport.write(answer(refusal, self._error_status or refusal.status))
        self.close_connections()

    def dataReceived(self, data: bytes) -> None:
        """Judge what came and pass it on; before the client is answered, keep it."""
        if self._far is not None:
            self._take(data)
        elif self._search is not None:
            self._early += data
            self.hold(len(self._early) > EARLY_BYTES)

    # what a client says

    def _take(self, data: bytes) -> None:
        """Pass on the control frames in what came, and the messages that may pass."""
        self.is_alive = True
        for step in () if self.has_closed else self._sieve.feed(data):
            if isinstance(step, Breach):
                self._break_off(step.code, step.words)
            elif not isinstance(step, Message):
                super().dataReceived(step)
            elif self._closing_at is None and self._may_pass(step.payload):
                super().dataReceived(step.frames)
        self._account()

    def _account(self) -> None:
        """Hold what is held in this client's share of the memory for requests."""
        client, more = self.upgrade.client, self._sieve.held_bytes - self._held_bytes
        if more > 0 and not self._keeper.memory.take(client, more):
            self._break_off(1013, "try again later: too many messages are being held")
            return
        self._held_bytes += more
        if more < 0:
            self._keeper.memory.give_back(client, -more)

    def _may_pass(self, payload: bytes) -> bool:
        """Whether a message may go to the node; where it may not, it is answered."""
        try:
            call: Call | None = parse_call(payload)
        except InvalidCall as error:
            if may_be_a_call(payload):
                self._answer(error_body(error.id, error.code, error.message))
                return False
            call = None
        refusal = None if call is None else self._refusal(call)
        if refusal is None and self._load is not None:
            is_answered = call is not None and call.expects_answer
            if not self._load.take(self._keeper.now(), is_answered=is_answered):
                refusal = _FULL
        if refusal is not None and (call is None or call.expects_answer):
            self._answer(error_body(call, refusal.code, refusal.message))
        return refusal is None

    def _refusal(self, call: Call) -> Refusal | None:
        """Why a call, or one of a batch, is not for nodes. A batch goes as it came, or not at all."""
        for member in call.members or (call,):
            if member.error is not None:
                return INVALID_REQUEST
            refusal: Refusal | None = self.upgrade.router.refusal(member)
            if refusal is not None:
                return refusal
        return None

    def _answer(self, text: bytes) -> None:
        """Send the client a message of ours, behind the one of the node's that it is reading."""
        self._owed += text_header(len(text)) + text
        if self._far is not None and self._far.watch.is_between_messages:
            self._pay()
        elif len(self._owed) > EARLY_BYTES:
            self._break_off(1013, "try again later: too many calls are refused")

    def _pay(self) -> None:
        owed, self._owed = self._owed, b""
        self.write(owed)

    def _break_off(self, code: int, reason: str) -> None:
        """End it for something that the client did."""
        if self._far is not None and self._closing_at is None:
            self._part(code, reason, is_whole=self._far.watch.is_between)

    # what happens on the sides

    def pass_on(self, side: Side, data: bytes) -> None:
        """Bytes came from a side."""
        far = self._far
        if side is self:
            if far is not None:
                far.write(data)
            return
        watch = side.watch
        if watch.answers and self._load is not None:
            self._load.answered(watch.answers)
            watch.answers = 0
        end = watch.message_end
        if self._owed and end is not None and end <= len(data):
            self.write(data[:end])
            self._pay()
            data = data[end:]
        self.write(data)

    def hold_opposite(self, side: Side, wait: bool) -> None:
        """A side does not keep up, or does again."""
        side.stuffed_at = self._keeper.now() if wait else None
        opposite = self._far if side is self else self
        if opposite is not None:
            opposite.hold(wait)

    def said_goodbye(self, side: Side, code: int) -> None:
        """A close frame of a side's has passed."""
        opposite = self._far if side is self else self
        if opposite is not None:
            opposite.is_dismissed = True
        if self._code is None:
            self._code = code
            if side is not self and code in _NODES_OWN:
                self._blame(f"its WebSocket was closed with {code}")
        self._begin_to_close()

    def broke_off(self, side: Side) -> None:
        """Nothing more comes from a side."""
        if self._far is None:
            self._give_up()
            return
        if not side.has_closed and not side.is_dismissed:
            if side is self:
                self._dismiss_node()
            else:
                self._blame("its WebSocket ended without a close frame")
                self._dismiss_client(1001, "unexpected EOF", is_whole=side.watch.is_between)
        self._begin_to_close()

    def lost(self, side: Side) -> None:
        """A side's connection is gone; the end of the other is waited for."""
        if self._load is not None:
            self._load.release()
        if side is self:
            held, self._held_bytes = self._held_bytes, 0
            self._keeper.memory.give_back(self.upgrade.client, held)
        far = self._far
        if far is None or (self.is_lost and far.is_lost):
            self._keeper.gone(self, None if far is None else self._code or _UNCLEAN)
            return
        (far if side is self else self).hold(False)  # while it is held, its end would not be noticed

    # the end

    def _give_up(self) -> None:
        """The client left before it was answered."""
        search, self._search = self._search, None
        if search is not None:
            search.cancel()
        self._closing_at = self._keeper.now()
        self.close_connections()

    def _blame(self, words: str) -> None:
        if self._node is not None:
            self._nodes.blame(self._node, words)

    def _dismiss_client(self, code: int, reason: str, *, is_whole: bool) -> None:
        """Tell the client; where it is in the middle of a frame, cut it off."""
        if self.dismiss(close_frame(code, reason) if is_whole else b""):
            self._code = self._code or code

    def _dismiss_node(self) -> None:
        """Tell the node that the client is leaving."""
        if self._far is not None:
            self._far.dismiss(close_frame(1001, "", self._entropy(4)) if self.watch.is_between else b"")

    def _part(self, code: int, reason: str, *, is_whole: bool) -> None:
        """End it from the middle."""
        self._dismiss_client(code, reason, is_whole=is_whole)
        self._dismiss_node()
        self._begin_to_close()

    def _begin_to_close(self) -> None:
        """One side has ended, or both; close the connections once nothing is waited for."""
        if self._closing_at is None:
            self._closing_at = self._keeper.now()
        far = self._far
        has_answered = self.is_over or self.has_closed
        if far is not None and has_answered and (self.is_over or self.is_dismissed or far.is_over):
            self.close_connections()

    def close_connections(self) -> None:
        """Close both behind what is written."""
        self.finish()
        if self._far is not None:
            self._far.finish()

    def close(self) -> None:
        """End it as evmlb stops: as soon as the client is between two frames."""
        if self._closing_at is not None:
            return
        if self._far is None:
            if self._search is not None:
                self._search.cancel()
            self.not_found(_STOPPING)
            return
        self.is_leaving = True
        if self._far.watch.is_between:
            self.leave()

    def leave(self) -> None:
        """What was passed to the client are whole frames: the moment to go."""
        if self._closing_at is None:
            self._part(1001, "evmlb is stopping", is_whole=True)

    def check(self, now: float) -> None:
        """Called about once a second: see what only time changes."""
        if self._closing_at is not None:
            if now - self._closing_at > CLOSE_SECONDS:
                self._cut_connections()
        elif self.leave_at is not None and now >= self.leave_at:
            self.close()
        elif self._far is not None:
            self._check_signs_of_life(self._far, now)

    def _cut_connections(self) -> None:
        self.cut()
        if self._far is not None:
            self._far.cut()

    def _takes_too_long(self, now: float) -> bool:
        """Whether a message has been coming in for too long; time in which we read nothing is not the client's."""
        if not self._sieve.held_bytes or self._is_held:
            self._partial = None
        elif self._partial is None or self._partial[1] != self._sieve.messages:
            self._partial = (now, self._sieve.messages)
        return self._partial is not None and now - self._partial[0] > self._keeper.message_seconds

    def _check_signs_of_life(self, far: Side, now: float) -> None:
        if self._load is not None:
            self._load.expire(now)
        if self.is_alive:
            self.is_alive, self._active_at = False, now
        idle_seconds = self._keeper.config.idle_timeout_seconds
        is_whole = far.watch.is_between
        if self._takes_too_long(now):
            self._break_off(1008, "the message took too long to arrive")
        elif self._is_stuffed(self, now):
            self._keeper.stats.slow_closed += 1
            self._part(1013, "try again later: what was sent is not read", is_whole=is_whole)
        elif self._is_stuffed(far, now):
            self._blame("does not read what is sent to its WebSocket")
            self._part(1001, "the node does not read", is_whole=is_whole)
        elif idle_seconds and now - self._active_at >= idle_seconds:
            self._part(1000, "idle", is_whole=is_whole)

    def _is_stuffed(self, side: Side, now: float) -> bool:
        return side.stuffed_at is not None and now - side.stuffed_at > self._keeper.stuffed_seconds
