"""One pass over the tree that collects every fault instead of stopping at the first.

A :class:`Place` is a node of the tree with its path; a reader takes a place and returns a value or raises
:class:`Wrong`. A table maps the keys of one mapping to readers and to fields of the schema; :func:`read_section`
walks a mapping by its table. Defaults are nowhere here: what a file does not give is left out, and the schema's
dataclasses fill it in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evmlb.config import tree
from evmlb.config.faults import Fault
from evmlb.config.values import Unexpected, did_you_mean, shown

T = TypeVar("T")

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")


class Wrong(Exception):
    """A value is not what was expected; the text says what was, and carries no secret."""


@dataclass(slots=True)
class Reading:
    """What one pass collects. ``unknown`` are the unknown keys, faults or warnings as ``unknown_keys`` decides."""

    environ: Mapping[str, str]
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    unknown: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the tree, the path to it, and the pass it is read in."""

    reading: Reading
    path: str
    node: tree.Node

    def fault(self, message: str) -> None:
        """Something here cannot be used."""
        self.reading.faults.append(Fault(self.path, self.node.line, message))

    def warn(self, message: str) -> None:
        """Something here has no effect, or not the expected one."""
        self.reading.warnings.append(Fault(self.path, self.node.line, message))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was given, which always means the default."""
        return isinstance(self.node, tree.Scalar) and self.node.is_empty

    @property
    def is_empty_list(self) -> bool:
        """Whether this is a list without items, or nothing."""
        return self.is_empty or (isinstance(self.node, tree.Sequence) and not self.node.items)

    def at(self, key: str, node: tree.Node) -> Place:
        """The place of a key below this one."""
        return Place(self.reading, f"{self.path}.{key}" if self.path else key, node)

    def items(self) -> Iterator[Place]:
        """The places of a list's items."""
        if not isinstance(self.node, tree.Sequence):
            raise Wrong("expected a list: each item on a line of its own after a dash (- )")
        for i, node in enumerate(self.node.items):
            yield Place(self.reading, f"{self.path}[{i}]", node)

    def entries(self) -> dict[str, Place]:
        """The places of a mapping's keys, merge keys applied. A key that is there twice is a fault."""
        if not isinstance(self.node, tree.Mapping):
            raise Wrong("expected keys and values")
        entries: dict[str, Place] = {}
        for key, node in self.node.entries:
            if _is_merge(key):
                continue
            place = self.at(_shown_key(key.text), node)
            if key.text in entries:
                first = entries[key.text].node.line
                place.reading.faults.append(
                    Fault(place.path, key.line, f"this key is there already, near line {first}")
                )
            else:
                entries[key.text] = place
        for key, node in self._merged(self.node):
            entries.setdefault(key.text, self.at(_shown_key(key.text), node))
        return entries

    def _merged(self, mapping: tree.Mapping) -> Iterator[tuple[tree.Scalar, tree.Node]]:
        for source in _merge_sources(mapping):
            if not isinstance(source, tree.Mapping):
                raise Wrong("expected keys and values behind <<, or a list of such")
            yield from ((key, node) for key, node in source.entries if not _is_merge(key))
            yield from self._merged(source)

    def text(self) -> str:
        """The text of a value, its variables expanded. Raises :class:`Wrong`; nothing given is wrong, too."""
        if self.is_empty:
            raise Wrong("expected a value, and there is none")
        if not isinstance(self.node, tree.Scalar):
            raise Wrong("expected a single value")
        return _VARIABLE.sub(self._expanded, self.node.text)

    @property
    def is_from_environment(self) -> bool:
        """Whether the text has variables, so that it is never to be shown."""
        return isinstance(self.node, tree.Scalar) and bool(_VARIABLE.search(self.node.text))

    def _expanded(self, found: re.Match[str]) -> str:
        name, default = found.groups()
        if found[0] == "$${":
            return "${"
        if name is None:
            raise Wrong("expected ${NAME} or ${NAME:-default} after ${; write $${ for the characters themselves")
        value = self.reading.environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise Wrong(f"the environment variable {name} is not set; ${{{name}:-...}} would give a default")
        return value


def _is_merge(key: tree.Scalar) -> bool:
    return key.plain and key.text == "<<"


def _merge_sources(mapping: tree.Mapping) -> Iterator[tree.Node]:
    for key, node in mapping.entries:
        if _is_merge(key):
            yield from node.items if isinstance(node, tree.Sequence) else (node,)


def _shown_key(text: str) -> str:
    # What ended up in a key's place by mistake may be a secret; a key of the file is letters and low lines.
    if re.fullmatch("[A-Za-z_-]{1,64}", text):
        return text
    said = shown(text)
    return text if said == f'"{text}"' and " " not in text else said


Reader = Callable[[Place], Any]
"""Reads the value at a place, or raises :class:`Wrong`; may note faults of parts and return the rest."""


def scalar(convert: Callable[[str], T], *, show: bool = True) -> Callable[[Place], T]:
    """A reader of single values; ``show`` False where a value may be secret and is not repeated in faults."""

    def read(place: Place) -> T:
        text = place.text()
        try:
            return convert(text)
        except Unexpected as error:
            said = error.expected if not show or place.is_from_environment else f"{error}, not {shown(text)}"
            raise Wrong(said) from None

    return read


def each(read: Callable[[Place], T]) -> Callable[[Place], tuple[T, ...]]:
    """A reader of lists; a wrong item is a fault of its own."""

    def read_all(place: Place) -> tuple[T, ...]:
        return tuple(value for item in place.items() for value in attempt(read, item))

    return read_all


def attempt(read: Callable[[Place], T], place: Place) -> tuple[T, ...]:
    """The value at a place, in a tuple, which is empty after a fault."""
    try:
        return (read(place),)
    except Wrong as wrong:
        place.fault(str(wrong))
        return ()


@dataclass(frozen=True, slots=True)
class Key:
    """What one key of the file means: the schema's field that it fills, "" for none, and the reader of its value."""

    field: str
    read: Reader


Table = Mapping[str, Key]


@dataclass(slots=True)
class Section:
    """What one mapping of the file gave: values and places by key. A key without a value is in neither."""

    place: Place
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def fields(self, table: Table) -> dict[str, Any]:
        """The values by field of the schema, those of this table's keys only."""
        return {table[key].field: value for key, value in self.values.items() if key in table and table[key].field}

    def at(self, key: str) -> Place:
        """The place of a key, or of the whole mapping where it is not given."""
        return self.places.get(key, self.place)


def read_section(place: Place, table: Table, elsewhere: Mapping[str, str], free_prefix: str | None = None) -> Section:
    """Read a mapping by its table.

    ``elsewhere`` says, for keys of other mappings, where they belong. Keys that begin with ``free_prefix`` are ignored.
    """
    section = Section(place)
    for name, found in place.entries().items():
        if free_prefix is not None and name.startswith(free_prefix):
            continue
        if name not in table:
            _note_unknown(found, name, table, elsewhere)
        elif not _is_default(found):
            section.places[name] = found
            for value in attempt(table[name].read, found):
                section.values[name] = value
    return section


def _is_default(place: Place) -> bool:
    if place.is_empty:
        return True
    try:
        return place.is_from_environment and not place.text()
    except Wrong:
        return False


def _note_unknown(place: Place, name: str, table: Table, elsewhere: Mapping[str, str]) -> None:
    hint = f"; it belongs {elsewhere[name]}" if name in elsewhere else did_you_mean(name, table)
    place.reading.unknown.append(Fault(place.path, place.node.line, f"unknown key{hint}"))
