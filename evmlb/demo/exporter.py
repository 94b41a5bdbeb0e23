"""A node-exporter page: the load lines a balancer wants, among some hundreds that it does not."""

from __future__ import annotations

from collections.abc import Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The page's Content-Type."""

_CPU_MODES = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")
_DISK_FIELDS = ("read_bytes_total", "reads_completed_total", "written_bytes_total", "writes_completed_total")
_NET_FIELDS = ("receive_bytes_total", "receive_packets_total", "transmit_bytes_total", "transmit_packets_total")
_MEMORY_FIELDS = (
    "Active",
    "Buffers",
    "Cached",
    "Dirty",
    "MemAvailable",
    "MemFree",
    "MemTotal",
    "SwapFree",
    "Writeback",
)


def exporter_page(load1: float, load5: float, load15: float, *, cpus: int = 16) -> bytes:
    """The page of a machine with these three loads, in the order and form of a real node-exporter."""
    return "".join(f"{line}\n" for line in _lines((load1, load5, load15), cpus)).encode()


def _lines(loads: tuple[float, float, float], cpus: int) -> Iterator[str]:
    yield from _metric("go_goroutines", "Number of goroutines that currently exist.", "gauge", {"": 8})
    cpu = {f'{{cpu="{n}",mode="{mode}"}}': 1000.5 + n for n in range(cpus) for mode in _CPU_MODES}
    yield from _metric("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", "counter", cpu)
    for field in _DISK_FIELDS:
        disks = {f'{{device="nvme{n}n1"}}': 1.234567e09 for n in range(4)}
        yield from _metric(f"node_disk_{field}", f"Disk {field}.", "counter", disks)
    for minutes, load in zip((1, 15, 5), (loads[0], loads[2], loads[1]), strict=True):
        yield from _metric(f"node_load{minutes}", f"{minutes}m load average.", "gauge", {"": load})
    for field in _MEMORY_FIELDS:
        text = f"Memory information field {field}_bytes."
        yield from _metric(f"node_memory_{field}_bytes", text, "gauge", {"": 6.7e10})
    for field in _NET_FIELDS:
        devices = {f'{{device="{device}"}}': 9.87654321e11 for device in ("docker0", "eth0", "lo", "wg0")}
        yield from _metric(f"node_network_{field}", f"Network device statistic {field}.", "counter", devices)
    yield from _metric("promhttp_metric_handler_requests_total", "Scrapes.", "counter", {'{code="200"}': 4321})


def _metric(name: str, text: str, kind: str, samples: dict[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples.items():
        yield f"{name}{labels} {value:g}"
