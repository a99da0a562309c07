"""Metric families made of values at a scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily

# Label values, and the number.
Sample = tuple[tuple[str, ...], float]


def gauge(name: str, documentation: str, labels: list[str], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"orchestrator_{name}", documentation, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
