"""How a segment ends, in a word."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.errors import MigrationFailedError, StoreError
from orchestrator.events import Event, SegmentRan
from orchestrator.execute.recording import UNRECORDED, Recording
from orchestrator.registry.model import Target

WHO = {"rollout": "r1", "track": "app", "tenant": "acme", "shard": "pg", "wave": "everyone"}
PLACE = Place(Target("acme", "app", "pg", "acme"), make_url("postgresql://me@db:5433/acme"), Limits())


@pytest.mark.parametrize(
    ("exc", "kind", "code"),
    [
        (None, None, None),
        (MigrationFailedError("no", kind="failed", code="42601"), "failed", "42601"),
        (StoreError("no answer"), "stopped", None),
        (KeyError("a surprise"), "bug", None),
        (asyncio.CancelledError(), "cancelled", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_segment_is_told_however_it_ends(exc: BaseException | None, kind: str | None, code: str | None) -> None:
    told: list[Event] = []
    recording = Recording(PLACE, WHO, told.append)
    with suppress(BaseException), recording.segment("online", ["b2"]):
        if exc is not None:
            raise exc
    [event] = told
    assert isinstance(event, SegmentRan)
    assert (event.kind, event.code, event.server, event.port, event.namespace) == (kind, code, "db", 5433, "acme")


def test_nothing_is_noted_where_nobody_wants_to_know() -> None:
    with UNRECORDED.segment("online", ["b2"]) as segment:
        assert segment is None
