"""Joins the notifier to the registry, the store and the bus."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.databases import programs
from orchestrator.notify.notifier import Notifier
from orchestrator.notify.sending import Sender
from orchestrator.service.wiring import Parts


def notifier(parts: Parts, leads: Callable[[], bool]) -> Notifier:
    """The notifier of a daemon, which hears of what happens; its `run` is the caller's to start."""
    made = Notifier(
        parts.store.outbox, lambda: parts.source.current.channels, Sender(programs.run), parts.bus.publish, leads
    )
    parts.bus.subscribe(made.hear)
    return made
