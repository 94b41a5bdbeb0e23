"""The metrics page: plain numbers, read when somebody asks for them.

Nothing is counted here but the events of networks. Everything else is read, at the time of a scrape, from where it is
kept anyway: :mod:`evmlb.stats`, the nodes, the pollers. So a request pays for none of this.

    numbers (what there is to read) -> families (a table: name, labels, how to read) -> page (slices of text)
"""

from evmlb.metrics.lag import LoopLag
from evmlb.metrics.metrics import Metrics
from evmlb.metrics.numbers import MetricsSource
from evmlb.metrics.page import Page

__all__ = ["LoopLag", "Metrics", "MetricsSource", "Page"]
