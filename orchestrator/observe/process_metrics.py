"""The metrics of the process itself: build, processor and memory, the event loop's lag, the store's failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version

import anyio
from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

import orchestrator

_LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LOOK_SECONDS = 0.5


class ProcessMetrics(Collector):
    """`store_errors` tells by operation (read, write) how many failed: none, until who knows better is put there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.store_errors: Callable[[], Mapping[str, int]] = dict
        self.lag = Histogram(
            "orchestrator_event_loop_lag_seconds",
            "How much later than asked for the event loop came back, looked at twice a second.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        _tell_build(registry)
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def collect(self) -> Iterator[Metric]:
        errors = CounterMetricFamily(
            "orchestrator_store_errors",
            "Reads and transactions of the store that failed; the daemon stops at one it cannot go on without.",
            labels=["operation"],
        )
        for operation, n in self.store_errors().items():
            errors.add_metric((operation,), n)
        yield errors

    async def watch(self, *, every_seconds: float = LOOK_SECONDS) -> None:
        """Measure the event loop's lag, for ever."""
        while True:
            due = anyio.current_time() + every_seconds
            await anyio.sleep_until(due)
            self.lag.observe(max(0.0, anyio.current_time() - due))


def _tell_build(registry: CollectorRegistry) -> None:
    versions = _versions()
    build = Gauge("orchestrator_build_info", "Versions of what runs; always 1.", list(versions), registry=registry)
    build.labels(**versions).set(1)


@cache
def _versions() -> dict[str, str]:
    return {"version": orchestrator.__version__, "alembic": version("alembic"), "sqlalchemy": version("sqlalchemy")}
