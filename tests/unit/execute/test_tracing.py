"""How a segment ends, in a word, and what is told of what was sent in it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.replay import Sender
from orchestrator.databases.scripts import Message
from orchestrator.errors import MigrationFailedError, StoreError
from orchestrator.events import Event, SegmentRan, Statement
from orchestrator.execute.tracing import UNTRACED, Tracing
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
    recording = Tracing(PLACE, WHO, told.append)
    with suppress(BaseException), recording.segment("online", ["b2"]):
        if exc is not None:
            raise exc
    [event] = told
    assert isinstance(event, SegmentRan)
    assert (event.kind, event.code, event.server, event.port, event.namespace) == (kind, code, "db", 5433, "acme")


def test_nothing_is_noted_where_nobody_wants_to_know() -> None:
    with UNTRACED.segment("online", ["b2"]) as segment:
        assert segment is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("exc", "failed", "code"),
    [
        (None, False, None),
        (MigrationFailedError("no", kind="failed", code="42601"), True, "42601"),
        (asyncio.CancelledError(), True, None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_message_that_was_cut_off_is_not_told_as_done(
    exc: BaseException | None, failed: bool, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(self: Sender, message: Message) -> None:
        if exc is not None:
            raise exc

    monkeypatch.setattr(Sender, "_send", send)
    told: list[Statement] = []
    nobody = cast(Any, None)
    with suppress(BaseException):
        sender = Sender(PLACE, nobody, nobody, timeouts=nobody, patience=None, heads=(), on_sent=told.append)
        await sender.send(Message("SELECT 1", revisions=("b2",), statements=("SELECT 1",)))
    assert [(one.failed, one.code) for one in told] == [(failed, code)]
