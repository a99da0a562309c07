"""Metric families made of values at a scrape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily

# Label values, and the number.
Sample = tuple[tuple[str, ...], float]
# Of what a label may be that is not the registry's, in characters.
LONGEST = 64


def gauge(name: str, documentation: str, labels: list[str], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"orchestrator_{name}", documentation, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def short(value: str) -> str:
    """A label's value, cut where it is too long; two that differ stay so.

    >>> short("ae1027a6acf"), len(short("x" * 500)), short("x" * 500) == short("x" * 501)
    ('ae1027a6acf', 64, False)
    """
    if len(value) <= LONGEST:
        return value
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{value[: LONGEST - len(digest) - 1]}…{digest}"
