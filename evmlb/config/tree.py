"""YAML text to a tree whose parts know their lines.

Two things set this tree apart from what ``yaml.safe_load`` returns. Scalars stay text: whether ``on``, ``no`` or
``0x10`` is a boolean, a number or the name of a network is decided by the key it stands under, never by YAML. And the
tree is bounded before anybody walks it: nesting, and the number of values once every alias is written out, so that
neither a deep file nor a few doubling aliases (the "billion laughs") can cost more than a glance.

The tree is built from the parser's events with a stack of its own: no recursion, no Python object is ever made from a
tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml

MAX_DEPTH = 32
"""Levels of nesting, aliases written out. The deepest sensible file has seven."""

MAX_VALUES = 200_000
"""Values in all, aliases written out: 256 networks of 64 nodes use 90,000."""

_TOO_DEEP = f"more than {MAX_DEPTH} levels of nesting"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_KNOWN_TAGS = frozenset(
    {None, "!"} | {f"tag:yaml.org,2002:{t}" for t in ["str", "int", "float", "bool", "null", "map", "seq"]}
)
_QUOTED = re.compile(r"'[^']{3,}'|\"[^\"]{3,}\"")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language; libyaml reads it twenty times faster


class TreeError(ValueError):
    """The text is no YAML, or more of it than a configuration needs. ``line`` counts from 1; ``None``: not known."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written, without its quotes. ``plain``: it had none."""

    line: int
    text: str
    plain: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing was given: no text, ``~`` or ``null``."""
        return not self.text or (self.plain and self.text in _NULLS)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    line: int
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order of the file, duplicates and merge keys (``<<``) included."""

    line: int
    entries: list[tuple[Scalar, Node]] = field(default_factory=list)


Node = Scalar | Sequence | Mapping


def parse_tree(text: str) -> Node | None:
    """The tree of the one document in ``text``; ``None`` when there is none. Raises :class:`TreeError`."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        if mark is not None and _brackets_open(text, mark.line, mark.column) > MAX_DEPTH:
            raise TreeError(_TOO_DEEP, line) from None
        raise TreeError(_without_quotes(error), line) from None
    except RecursionError:
        raise TreeError(_TOO_DEEP, None) from None
    except (yaml.YAMLError, UnicodeError):
        raise TreeError("not YAML: it has a character that YAML does not allow", _line_of_control(text)) from None
    return builder.root


def _brackets_open(text: str, line: int, column: int) -> int:
    """How many brackets are open where the parser gave up.

    It reads ahead of its events, and has a limit of its own, or none: so what it says of depth is not what we say.
    """
    lines = text.split("\n", line + 1)
    before = "\n".join((*lines[:line], lines[line][:column] if line < len(lines) else ""))
    return sum(map(before.count, "[{")) - sum(map(before.count, "]}"))


def _without_quotes(error: yaml.MarkedYAMLError) -> str:
    # What the parser quotes is text of the file, and may be part of a secret.
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return "not YAML: " + (_QUOTED.sub("'...'", said) or "it cannot be read")


def _line_of_control(text: str) -> int | None:
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    return text.count("\n", 0, found.start()) + 1 if found else None


@dataclass(slots=True)
class _Measured:
    """A finished node with its size and height, aliases written out."""

    node: Node
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    measured: _Measured
    anchor: str | None
    key: Scalar | None = None


class _Builder:
    """Takes the parser's events, in order; ``root`` is the tree after the last."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._documents = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, _Measured | None] = {}  # None: still open, so an alias to it would be endless

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.ScalarEvent():
                self._check_tag(event.tag, line)
                plain = not event.style and event.tag is None
                self._finish(_Measured(Scalar(line, event.value, plain)), event.anchor, line)
            case yaml.AliasEvent():
                self._add(self._target(str(event.anchor), line), line)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._check_tag(event.tag, line)
                is_list = isinstance(event, yaml.SequenceStartEvent)
                self._begin(Sequence(line) if is_list else Mapping(line), event.anchor, line)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                self._finish(done.measured, done.anchor, done.measured.node.line)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise TreeError("a second document (---) begins: one file has one", line)

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag not in _KNOWN_TAGS:
            raise TreeError("a tag (!...) that means nothing here; quote the value if it begins with !", line)

    def _target(self, anchor: str, line: int) -> _Measured:
        if anchor not in self._anchors:
            raise TreeError("an alias (*...) without its anchor (&...); quote the value if it begins with *", line)
        target = self._anchors[anchor]
        if target is None:
            raise TreeError("an alias (*...) inside what it stands for", line)
        return target

    def _begin(self, node: Node, anchor: str | None, line: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = None
        self._open.append(_Open(_Measured(node), anchor))
        self._check_depth(0, line)

    def _finish(self, measured: _Measured, anchor: str | None, line: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = measured
        self._add(measured, line)

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise TreeError(_TOO_DEEP, line)

    def _add(self, child: _Measured, line: int) -> None:
        if not self._open:
            self.root = child.node
            return
        self._check_depth(child.height, line)
        parent = self._open[-1]
        whole = parent.measured
        whole.size += child.size
        whole.height = max(whole.height, child.height + 1)
        if whole.size > MAX_VALUES:
            raise TreeError(f"more than {MAX_VALUES:,} values, aliases written out", line)
        if isinstance(whole.node, Sequence):
            whole.node.items.append(child.node)
        elif isinstance(whole.node, Mapping):
            self._add_to_mapping(parent, whole.node, child.node)

    def _add_to_mapping(self, parent: _Open, mapping: Mapping, child: Node) -> None:
        if parent.key is not None:
            mapping.entries.append((parent.key, child))
            parent.key = None
        elif isinstance(child, Scalar):
            parent.key = child
        else:
            raise TreeError("a list or mapping where a key was expected", child.line)
