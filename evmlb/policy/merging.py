"""What several verdicts come to: on the same call by several nodes, and on the members of one batch.

When every node has failed a call, its client gets the answer that tells it most (:func:`worth`)::

    3  every node would say so
    2  the node does not have what is asked for, or not so much of it, and says so in words that are known
    1  words that no rule knows; a null that is doubted
    0  the node does not have the method, so it has not looked at the call
   -1  the node's own trouble, for which it is blamed

Of equal ones the first is taken. An error in general terms, such as "internal error", so never hides one that says what
is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evmlb.config.rules import Verdict
from evmlb.errors import Fault

__all__ = ["merged", "worth"]

_SAYS_WHAT = frozenset((Fault.MISSING_DATA, Fault.REJECTED))


def worth(verdict: Verdict) -> int:
    """How much an answer with this verdict tells a client, beside others that it might get."""
    if verdict.blame:
        return -1
    if verdict.fault is None or not verdict.retry:
        return 3
    if verdict.fault in _SAYS_WHAT:
        return 2
    return 0 if verdict.fault is Fault.UNSUPPORTED else 1


def merged(verdicts: Sequence[Verdict]) -> Verdict:
    """The one verdict on a batch by those on its members that failed; one at least.

    Its fault and its words are those of the member that tells most. A node is to blame, or held off, only if all of
    these members say so.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    return replace(
        max(verdicts, key=lambda verdict: (verdict.informative, worth(verdict))),
        retry=any(verdict.retry for verdict in verdicts),
        not_there_yet=any(verdict.not_there_yet for verdict in verdicts),
        blame=min(verdict.blame for verdict in verdicts),
        not_executed=all(verdict.not_executed for verdict in verdicts),
        limited=all(verdict.limited for verdict in verdicts),
        # These are about one call and its answer, and which of them would it be?
        unsupported=False,
        split=False,
        client_code=None,
    )
