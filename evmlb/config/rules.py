"""A rule of the verdict table: what it is as a value, and how it is read, from the file or from the built-in table.

A rule has a name, one or more conditions (``when``) and a verdict (``then``). It matches when every part of one of its
conditions is met. The verdict's columns are independent: none follows from another, and what is not given is no. A rule
may ``inherit`` the verdict of a rule above it, or of a built-in one, and change some columns.

:mod:`evmlb.policy.verdicts` applies the rules; nothing is matched here. The verdict is a value of this module because
it is what a rule says. The built-in table is a data file beside the module that applies it.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import TypeVar

from evmlb.config import tree
from evmlb.config.faults import ConfigError
from evmlb.config.patterns import checked_pattern, too_many
from evmlb.config.reading import Key, Place, Reading, Section, Wrong, attempt, each, read_section, scalar
from evmlb.config.values import Unexpected, boolean, did_you_mean, one_of, whole, word_of
from evmlb.errors import Fault
from evmlb.methods import MethodClass

T = TypeVar("T")

MAX_MESSAGE = 1000
"""Characters of a message, or of a body that is no JSON-RPC, that rules look at."""

_ANY_STATUS = frozenset(range(100, 1000))
_CODES = whole(-(2**31), 2**31)


class Blame(enum.IntEnum):
    """What an attempt's end does to the node's standing; of two the larger is the stricter."""

    NONE = 0
    SUSPECT = 1  # asked last in its tier, no more
    FAILURE = 2  # also counts in the breaker, once it is proven that the request was not the cause


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt's end means.

    ``fault`` None: the answer is the client's, be it a result or an error. ``rule`` is the name of the rule that says
    so, empty for what the table is not about.
    """

    fault: Fault | None = None
    retry: bool = False  # another node may do better
    retry_here: bool = False  # with nobody untried left, the same node may do better after a pause
    not_there_yet: bool = False  # what is missing may be there after a part of a block time
    blame: Blame = Blame.NONE
    informative: bool = False  # better than an error of our own when nothing else comes
    not_executed: bool = False  # surely not carried out: even what must not be sent twice may go elsewhere
    unsupported: bool = False  # this node lacks the method: remember it
    limited: bool = False  # the node is asked too often: hold it off, which is no blame
    split: bool = False  # parts of the range that was asked for would not be too large
    success: bool = False  # what the call wished is done, although the node says error
    verify: bool = False  # look whether what the call wished is done before the error is believed
    client_code: int | None = None  # the JSON-RPC code that the client gets in place of the node's
    rule: str = ""

    def permits_retry(self, repeatable: bool) -> bool:
        """Whether the call may go to another node after this. ``repeatable``: sending it twice does no harm."""
        return self.retry and (repeatable or self.not_executed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a rule is about. Each part that is given must be met; within a part any one value does."""

    statuses: frozenset[int] = frozenset()
    codes: frozenset[int] = frozenset()
    texts: tuple[str, ...] = ()  # patterns, found anywhere in the error's message
    bodies: tuple[str, ...] = ()  # the same, in the beginning of a body that is no JSON-RPC
    methods: tuple[str, ...] = ()  # globs
    classes: frozenset[MethodClass] = frozenset()
    providers: frozenset[str] = frozenset()
    retry_after: bool = False  # the answer has a Retry-After

    @property
    def is_about_bodies(self) -> bool:
        """Whether this is about answers without JSON-RPC; with ``codes`` or ``texts`` it is about JSON-RPC errors."""
        return bool(self.statuses or self.bodies) and not (self.codes or self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRule:
    """One row of the table; it matches when any of its conditions is met."""

    name: str
    verdict: Verdict
    conditions: tuple[Condition, ...]
    description: str = ""


# -- the parts of a condition


def _one_or_more(read: Callable[[Place], T]) -> Callable[[Place], tuple[T, ...]]:
    """A single value, or a list of them."""
    read_all = each(read)

    def read_any(place: Place) -> tuple[T, ...]:
        return read_all(place) if isinstance(place.node, tree.Sequence) else (read(place),)

    return read_any


def _set_of(read: Callable[[Place], T]) -> Callable[[Place], frozenset[T]]:
    read_any = _one_or_more(read)
    return lambda place: frozenset(read_any(place))


def _status(text: str) -> frozenset[int]:
    """A status, a hundred of them (``5xx``), or ``any``."""
    if text.lower() == "any":
        return _ANY_STATUS
    if re.fullmatch("[1-9]xx", text.lower()):
        return frozenset(range(int(text[0]) * 100, int(text[0]) * 100 + 100))
    if re.fullmatch("[1-9][0-9][0-9]", text):
        return frozenset((int(text),))
    raise Unexpected("expected an HTTP status such as 429, a hundred of them such as 5xx, or any")


def _statuses(place: Place) -> frozenset[int]:
    return frozenset().union(*_one_or_more(scalar(_status))(place))


def _glob(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*?\[\]!-]{1,100}", text):
        raise Unexpected("expected a method or a glob of methods such as debug_*")
    return text


def _class(text: str) -> MethodClass:
    return MethodClass[word_of("fast", "slow", "unsafe")(text).upper()]


def _provider(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_-]{1,40}", text):
        raise Unexpected("expected the name of a provider or client such as alchemy or geth")
    return text.lower()


def _present(text: str) -> bool:
    if not boolean(text):
        raise Unexpected("expected yes: a condition without the key is met by any answer")
    return True


CONDITION_KEYS: dict[str, Key] = {
    "status": Key("statuses", _statuses),
    "code": Key("codes", _set_of(scalar(_CODES))),
    "text": Key("texts", _one_or_more(scalar(checked_pattern, show=False))),
    "body": Key("bodies", _one_or_more(scalar(checked_pattern, show=False))),
    "methods": Key("methods", _one_or_more(scalar(_glob))),
    "class": Key("classes", _set_of(scalar(_class))),
    "provider": Key("providers", _set_of(scalar(_provider))),
    "retry_after": Key("retry_after", scalar(_present)),
}


def _condition(place: Place) -> Condition:
    section = read_section(place, CONDITION_KEYS, dict.fromkeys(COLUMNS, "under then"))
    if not section.places:
        raise Wrong(f"expected at least one of {', '.join(CONDITION_KEYS)}")
    if section.places.keys() & {"code", "text"} and "body" in section.places:
        section.at("body").fault("expected no code and no text beside it: body is for answers that are no JSON-RPC")
    return Condition(**section.fields(CONDITION_KEYS))


# -- the columns of a verdict


def _fault(text: str) -> Fault | None:
    return None if text.lower() == "none" else one_of(Fault)(text)


def _blame(text: str) -> Blame:
    return Blame[word_of(*(blame.name.lower() for blame in Blame))(text).upper()]


def _client_code(text: str) -> int | None:
    return None if text.lower() == "none" else _CODES(text)


COLUMNS: dict[str, Key] = {
    "fault": Key("fault", scalar(_fault)),
    "retry": Key("retry", scalar(boolean)),
    "retry_here": Key("retry_here", scalar(boolean)),
    "not_there_yet": Key("not_there_yet", scalar(boolean)),
    "blame": Key("blame", scalar(_blame)),
    "informative": Key("informative", scalar(boolean)),
    "not_executed": Key("not_executed", scalar(boolean)),
    "unsupported": Key("unsupported", scalar(boolean)),
    "limited": Key("limited", scalar(boolean)),
    "split": Key("split", scalar(boolean)),
    "success": Key("success", scalar(boolean)),
    "verify": Key("verify", scalar(boolean)),
    "client_code": Key("client_code", scalar(_client_code)),
}


def _columns(place: Place) -> Section:
    return read_section(place, COLUMNS, dict.fromkeys(CONDITION_KEYS, "under when"))


def _check_columns(verdict: Verdict, then: Section) -> None:
    """Note what contradicts itself in a verdict: it would be acted on in part, which is worse than a fault."""
    if then.places.keys() != then.values.keys():
        return  # what could not be read is told already
    of_nodes = verdict.retry or verdict.retry_here or verdict.blame or verdict.limited or verdict.unsupported
    if verdict.fault is None and of_nodes:
        then.place.fault("expected a fault beside these columns: without one the answer is the client's")
    if verdict.fault is not None and (verdict.success or verdict.verify):
        then.place.fault("expected no fault beside success or verify: both are about answers that may be the client's")


# -- rules


def _name(text: str) -> str:
    if not re.fullmatch(r"[ -~]{1,64}", text):
        raise Unexpected("expected a name of up to 64 printable ASCII characters")
    return text


RULE_KEYS: dict[str, Key] = {
    "name": Key("name", scalar(_name)),
    "description": Key("description", Place.text),
    "inherit": Key("", scalar(_name)),
    "when": Key("conditions", _one_or_more(_condition)),
    "then": Key("", _columns),
}


def _rule(place: Place, known: Mapping[str, Verdict]) -> VerdictRule:
    """One rule; ``known`` are the verdicts that it may inherit."""
    elsewhere = dict.fromkeys(CONDITION_KEYS, "under when") | dict.fromkeys(COLUMNS, "under then")
    section = read_section(place, RULE_KEYS, elsewhere)
    for key in ("name", "when"):
        if key not in section.places:
            place.fault(f"expected the key {key}")
    inherited = section.values.get("inherit", "")
    if inherited and inherited not in known:
        section.at("inherit").fault(f"expected the name of a rule above, or built in{did_you_mean(inherited, known)}")
    then = section.values.get("then", Section(place))
    name = section.values.get("name", "")
    verdict = replace(known.get(inherited, Verdict()), **then.fields(COLUMNS), rule=name)
    if inherited in known or not inherited:
        _check_columns(verdict, then)
    return VerdictRule(
        name=name,
        verdict=verdict,
        conditions=section.values.get("when", ()),
        description=" ".join(section.values.get("description", "").split()),
    )


def _rules(place: Place, known: Mapping[str, Verdict]) -> tuple[VerdictRule, ...]:
    rules: list[VerdictRule] = []
    verdicts = dict(known)
    for item in place.items():
        for rule in attempt(lambda place: _rule(place, verdicts), item):
            rules.append(rule)
            verdicts[rule.name] = rule.verdict
    return tuple(rules)


def read_rules(place: Place) -> tuple[VerdictRule, ...]:
    """The rules under ``verdicts`` in the configuration, in the order of the file."""
    rules = _rules(place, {rule.name: rule.verdict for rule in builtin_rules()})
    conditions = [condition for rule in rules for condition in rule.conditions]
    fault = too_many(pattern for condition in conditions for pattern in condition.texts + condition.bodies)
    if fault:
        place.fault(fault)
    return rules


@functools.cache
def builtin_rules() -> tuple[VerdictRule, ...]:
    """The built-in table, read once. It is a part of the program: a fault in it raises :class:`ConfigError`."""
    text = resources.files("evmlb.policy").joinpath("verdicts.yaml").read_text(encoding="utf-8")
    reading = Reading({})
    rules = _rules(Place(reading, "", tree.parse_tree(text) or tree.Sequence(1)), {})
    faults = (*reading.faults, *reading.unknown)
    if faults:
        raise ConfigError(faults, "verdicts.yaml")
    return rules
