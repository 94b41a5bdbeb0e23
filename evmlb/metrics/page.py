"""From families to text, in slices.

A page of thousands of series at once would hold every request for as long: 11,000 take 75 ms. So samples are made
while they are written, ``SLICE_SAMPLES`` at a time, and whoever drives the page pauses in between. The text itself is
prometheus_client's: it is given a few families, or a part of one, at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from evmlb.metrics.lag import Histogram
from evmlb.metrics.numbers import Numbers

SLICE_SAMPLES = 100
"""So many samples are written without a pause: less than a millisecond."""
OPENMETRICS = "application/openmetrics-text"
_EOF = b"# EOF\n"
_HEADER_LINES = 2  # HELP and TYPE

Labels = tuple[str, ...]
Row = tuple[Labels, Any]
"""Label values, and a number or a :class:`~evmlb.metrics.lag.Histogram`."""
Encode = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """A page under way: take ``slices`` one by one, with a pause between them, and join them."""

    content_type: str
    slices: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Family:
    """One family. ``rows`` reads its samples; it must bear that numbers change and series come between two rows."""

    kind: str  # gauge, counter, histogram
    name: str
    help: str
    labels: Labels
    rows: Callable[[Numbers], Iterable[Row]]

    def holding(self, rows: Iterable[Row], *, canonical: bool) -> Metric:
        """The family with these samples. ``canonical``: bucket bounds as OpenMetrics wants them, else as Go does."""
        if self.kind == "histogram":
            return self._histogram(rows, canonical=canonical)
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        metric = kind(self.name, self.help, labels=self.labels)
        for labels, value in rows:
            metric.add_metric(labels, value)
        return metric

    def _histogram(self, rows: Iterable[Row], *, canonical: bool) -> Metric:
        metric = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, histogram in rows:
            metric.add_metric(labels, _buckets(histogram, canonical=canonical), histogram.sum)
        return metric

    @property
    def slice_rows(self) -> int:
        """How many rows make a slice."""
        return SLICE_SAMPLES // 14 if self.kind == "histogram" else SLICE_SAMPLES


def _buckets(histogram: Histogram, *, canonical: bool) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*histogram.bounds, float("inf")), tuple(histogram.counts), strict=True):
        total += count
        buckets.append((_bound(bound, canonical=canonical), total))
    return buckets


def _bound(bound: float, *, canonical: bool) -> str:
    if bound == float("inf"):
        return "+Inf"
    return str(bound) if canonical else f"{bound:g}"


def render(families: Sequence[Family], numbers: Numbers, accept: str | None) -> Page:
    """Begin a page in the format that an ``Accept`` header asks for: OpenMetrics, else Prometheus' text."""
    encode, content_type = _encoder(accept)
    return Page(content_type, _slices(families, numbers, encode, openmetrics=content_type.startswith(OPENMETRICS)))


def _encoder(accept: str | None) -> tuple[Encode, str]:
    """The library's choice; a header that makes no sense to it is none."""
    try:
        return choose_encoder(accept or "")
    except (TypeError, ValueError):
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4


def _slices(families: Sequence[Family], numbers: Numbers, encode: Encode, *, openmetrics: bool) -> Iterator[bytes]:
    for batch in _batches(_pieces(families, numbers, canonical=openmetrics)):
        yield _encoded(batch, encode)
    if openmetrics:
        yield _EOF


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a family; ``continued``: not its first."""

    metric: Metric
    continued: bool


def _pieces(families: Sequence[Family], numbers: Numbers, *, canonical: bool) -> Iterator[_Piece]:
    for family in families:
        rows = iter(family.rows(numbers))
        continued = False
        while part := list(islice(rows, family.slice_rows)):
            yield _Piece(family.holding(part, canonical=canonical), continued)
            continued = True


def _batches(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Small families together, a large one by itself; a continued piece only ever comes first."""
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        if batch and (piece.continued or size + len(piece.metric.samples) > SLICE_SAMPLES):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece.metric.samples)
    if batch:
        yield batch


class _Batch:
    """What the library wants to encode: something with ``collect``."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _encoded(batch: list[_Piece], encode: Encode) -> bytes:
    text = encode(_Batch([piece.metric for piece in batch])).removesuffix(_EOF)
    return text.split(b"\n", _HEADER_LINES)[-1] if batch[0].continued else text
