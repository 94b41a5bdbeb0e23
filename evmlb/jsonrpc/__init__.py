"""JSON-RPC 2.0 as a balancer needs it: envelopes (:mod:`.calls`), kinds of answers (:mod:`.answers`), :mod:`.scan`.

Nothing here parses parameters or results (https://www.jsonrpc.org/specification).
"""

from evmlb.jsonrpc.answers import (
    Answer,
    AnswerKind,
    begins_plain_result,
    is_plain_result,
    read_answer,
    read_batch_answer,
)
from evmlb.jsonrpc.calls import Call, InvalidCall, call_body, error_body, parse_call
from evmlb.jsonrpc.scan import Unreadable, scan_members

__all__ = [
    "Answer",
    "AnswerKind",
    "Call",
    "InvalidCall",
    "Unreadable",
    "begins_plain_result",
    "call_body",
    "error_body",
    "is_plain_result",
    "parse_call",
    "read_answer",
    "read_batch_answer",
    "scan_members",
]
