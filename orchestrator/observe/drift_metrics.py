"""The metrics of drift: taken over from who looks for it, in the process that leads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge

from orchestrator.observe.registry_metrics import replace


class DriftMetrics:
    """A track has series once it was looked at, and as long as the registry has it looked at."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.drifted = Gauge(
            "orchestrator_drifted_targets",
            "Targets whose schema differs from that of the others at their revision, when they were last looked at.",
            ["track"],
            registry=registry,
        )
        self.unread = Gauge(
            "orchestrator_drift_unread_targets",
            "Targets whose schema could not be read when it was last to be compared.",
            ["track"],
            registry=registry,
        )
        self.last_look = Gauge(
            "orchestrator_drift_last_look_timestamp_seconds",
            "When a track's targets were last compared with each other, in Unix time.",
            ["track"],
            registry=registry,
        )

    def describe(
        self, drifted: Mapping[str, int], unread: Mapping[str, int], looked_at: Mapping[str, datetime]
    ) -> None:
        """Take over what is known, by track."""
        replace(self.drifted, drifted)
        replace(self.unread, unread)
        replace(self.last_look, {track: moment.timestamp() for track, moment in looked_at.items()})
