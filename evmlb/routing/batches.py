"""What is known of one batch while it is asked: which members are answered, by whom, and what is asked again.

A batch goes to a node as it came, and nearly always its answer is passed on as it came, too. Then nothing here is used.
Otherwise each member has a fate of its own:

=============  =======================================================  ==================================
a member       because                                                  its answer
=============  =======================================================  ==================================
was refused    it is no call, or not for nodes                          ours, before any node is asked
is settled     a result, an error that is the client's, an unsafe call  the node's
               that failed and may have been carried out
is left        it failed, and another node may do better                the next node's, or the best so far
is given up    it is unsafe, and no answer came at all                  ours, at the end
=============  =======================================================  ==================================

What is left is sent to the next node as a smaller batch. In the end all answers are put together in one array, in the
order of the calls: those of nodes as the bytes they are.
"""

from __future__ import annotations

import orjson

from evmlb.errors import Refusal
from evmlb.interfaces import AnswerHead
from evmlb.jsonrpc import Call, array_of, error_answer, members_of, read_error
from evmlb.methods import UNSAFE, MethodClass

MAX_REPEATED_BYTES = 1024 * 1024
"""An error that answers a whole batch is told for each id, shortened if it came to more than this."""
_SHORT_MESSAGE = 100


class Batch:
    """See the module's head. ``body`` is what the next node is sent, ``asked`` the members in it that are owed answers.

    Members are named by their places in ``call``.
    """

    __slots__ = ("_best", "_body", "_given_up", "_settled", "asked", "body", "call", "doubted", "lacking")

    def __init__(self, call: Call, body: bytes) -> None:
        self.call = call
        self.body = self._body = body
        self.asked: tuple[int, ...] = ()
        self.doubted: set[int] = set()  # a null was not believed once
        self.lacking: set[str] = set()  # methods that the node asked last does not have
        self._settled: dict[int, bytes] = {}
        self._best: dict[int, tuple[int, bytes]] = {}  # of those left: the answer that tells most, and how much
        self._given_up: set[int] = set()
        refused = False
        asked = []
        for place, member in enumerate(self.members):
            if member.error is not None:
                refused = True
                if member.id:
                    self._settled[place] = error_answer(member.id, _error(*member.error))
            elif member.id:
                asked.append(place)
        self.asked = tuple(asked)
        if refused:
            self._send([place for place, member in enumerate(self.members) if member.error is None])

    @property
    def members(self) -> tuple[Call, ...]:
        """The calls of the batch."""
        return self.call.members or ()

    @property
    def ids(self) -> list[bytes]:
        """The ids that the node under way is asked with."""
        return [self.members[place].id for place in self.asked]

    @property
    def is_whole(self) -> bool:
        """Whether an answer to what is asked now is the answer to the batch."""
        return not self._given_up and self._settled.keys() <= set(self.asked)

    @property
    def left(self) -> list[int]:
        """The members that are owed an answer, and may be asked for one."""
        return [place for place in self.asked if place not in self._settled and place not in self._given_up]

    def is_settled(self, place: int) -> bool:
        """Whether a member has its answer."""
        return place in self._settled

    @property
    def tells(self) -> bool:
        """Whether a node has said anything that its client should read."""
        return bool(self._best) or any(self.members[place].error is None for place in self._settled)

    # facts in

    def settle(self, place: int, answer: bytes) -> None:
        """This is a member's answer."""
        self._settled[place] = answer
        self._best.pop(place, None)

    def offer(self, place: int, worth: int, answer: bytes) -> None:
        """This would be a member's answer if no better one came."""
        if place not in self._settled and (place not in self._best or self._best[place][0] < worth):
            self._best[place] = (worth, answer)

    def offer_all(self, worth: int, error: bytes) -> None:
        """The node said so of the whole batch."""
        left = self.left
        if len(error) * len(left) > MAX_REPEATED_BYTES:
            error = _shortened(error)
        for place in left:
            self.offer(place, worth, error_answer(self.members[place].id, error))

    def give_up_unsafe(self) -> bool:
        """No unsafe member may be sent again; say whether others may."""
        self._given_up.update(place for place in self.left if self.members[place].klass is UNSAFE)
        return bool(self.left)

    # decisions out

    def narrow(self, klass: MethodClass) -> MethodClass:
        """From now on only what is left is sent; the class of that, where ``klass`` is that of what was sent before."""
        left = self.left
        if len(left) == len(self.asked):
            return klass
        self.asked = tuple(left)
        self._send(left)
        return max(self.members[place].klass for place in left)

    def _send(self, places: list[int]) -> None:
        raws = members_of(self._body)
        self.body = array_of(raws[place] for place in places)

    def answer(self, head: AnswerHead, refusal: Refusal) -> tuple[AnswerHead, list[bytes]]:
        """The whole answer; ``refusal`` is told to those that no node has answered."""
        body = array_of(self._answers(range(len(self.members)), refusal))
        return MendedHead(head, len(body)), [body]

    def _answers(self, places: range | list[int], refusal: Refusal) -> list[bytes]:
        own = _error(refusal.code, refusal.message)
        return [
            self._settled.get(place) or self._best.get(place, (0, b""))[1] or error_answer(self.members[place].id, own)
            for place in places
            if self.members[place].id
        ]

    def prefix(self, refusal: Refusal) -> bytes:
        """What comes before the members of an answer that is streamed, from its array's bracket on."""
        under_way = set(self.asked) - self._given_up
        rest = [place for place in range(len(self.members)) if place not in under_way]
        return b"[" + b"".join(answer + b"," for answer in self._answers(rest, refusal))


class MendedHead:
    """The head of an answer whose body is put together here: an ``AnswerHead``."""

    __slots__ = ("_head", "length")

    content_type = b"application/json"
    is_encoded = False
    status = 200

    def __init__(self, head: AnswerHead, length: int) -> None:
        self._head = head
        self.length = length

    @property
    def keep_alive(self) -> bool:
        """Of the node's connection."""
        return self._head.keep_alive

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The node's."""
        return self._head.headers

    def value(self, name: bytes) -> bytes:
        """The first value of a header, empty when there is none."""
        return self._head.value(name)


def begun(batch: Batch, head: AnswerHead, parts: list[bytes], refusal: Refusal) -> tuple[AnswerHead, list[bytes]]:
    """The beginning of a streamed answer, behind what is answered already."""
    if batch.is_whole:
        return head, parts
    beginning = b"".join(parts)
    bracket = beginning.index(b"[")
    prefix = batch.prefix(refusal)
    length = head.length + len(prefix) - bracket - 1 if head.length >= 0 else head.length
    return MendedHead(head, length), [prefix + beginning[bracket + 1 :]]


def _error(code: int, message: str) -> bytes:
    return orjson.dumps({"code": code, "message": message})


def _shortened(error: bytes) -> bytes:
    """An error's code and the beginning of its message."""
    read = read_error(error)
    return _error(read.code, read.message[:_SHORT_MESSAGE])
