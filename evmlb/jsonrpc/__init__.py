"""JSON-RPC 2.0 as a balancer needs it: envelopes (:mod:`.calls`), kinds of answers (:mod:`.answers`), of
those to batches (:mod:`.batches`), and the one door for what comes from outside (:mod:`.reading`, :mod:`.scan`).

Nothing here parses parameters or results (https://www.jsonrpc.org/specification).
"""

from evmlb.jsonrpc.answers import (
    Answer,
    AnswerKind,
    begins_plain_result,
    is_plain_result,
    read_answer,
    read_error,
)
from evmlb.jsonrpc.batches import BatchAnswer, MemberAnswer, array_of, error_answer, members_of, read_batch_answer
from evmlb.jsonrpc.calls import Call, InvalidCall, call_body, error_body, may_be_a_call, parse_call
from evmlb.jsonrpc.reading import Unreadable, decoder, is_utf8, read_value
from evmlb.jsonrpc.scan import name_of, scan_members

__all__ = [
    "Answer",
    "AnswerKind",
    "BatchAnswer",
    "Call",
    "InvalidCall",
    "MemberAnswer",
    "Unreadable",
    "array_of",
    "begins_plain_result",
    "call_body",
    "decoder",
    "error_answer",
    "error_body",
    "is_plain_result",
    "is_utf8",
    "may_be_a_call",
    "members_of",
    "name_of",
    "parse_call",
    "read_answer",
    "read_batch_answer",
    "read_error",
    "read_value",
    "scan_members",
]
