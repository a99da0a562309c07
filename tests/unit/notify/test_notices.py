"""What is told of a rollout's events, and what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.notify import notices
from orchestrator.notify.notices import Happened, Stream
from orchestrator.registry.channels import Channel

AT = "2026-01-02T03:04:05.000Z"


def created(sequence: int = 1) -> Happened:
    return Happened(sequence, "RolloutCreated", {"at": AT, "total": 9})


def changed(sequence: int, state: str, reason: str | None = None, **data: Any) -> Happened:
    told = {"at": AT, "state": state, "reason": reason, "total": 9, "counts": {}, "seconds": 1.5, **data}
    return Happened(sequence, "RolloutStateChanged", told)


def told(*events: Happened, before: str = "pending", track: str = "app") -> list[notices.Notice]:
    return list(notices.of_rollout(Stream("r1", track, "head", "ci", before, events))[0])


def test_the_course_of_a_rollout_is_told_once_each() -> None:
    found = told(
        created(),
        changed(2, "planning"),
        changed(3, "awaiting_approval", waiting="waiting for approval of the plan"),
        changed(4, "awaiting_approval", waiting="waiting for approval of the plan"),
        changed(5, "running"),
        changed(6, "paused", "wave canary: 3 of 9 targets failed, more than the 2 that are allowed"),
        changed(7, "paused", "the same, with a tenant skipped"),
        changed(8, "running", "resumed by ann"),
        changed(9, "succeeded", counts={"succeeded": 9}),
    )
    kinds = [notice.kind for notice in found]
    assert kinds == ["rollout_started", "approval_needed", "rollout_paused", "rollout_finished"]
    assert "wave canary: 3 of 9" in found[2].text


def test_the_state_goes_on_where_it_was_looked_at_last() -> None:
    assert told(changed(7, "paused", "x"), before="paused") == []
    assert notices.of_rollout(Stream("r1", "app", "head", "ci", "running", [changed(8, "paused", "x")]))[1] == "paused"


def test_who_paused_it_knows() -> None:
    assert told(changed(2, "paused", "whatever is said", by="ann"), before="running") == []
    [found] = told(changed(2, "paused", "paused by a lock that is held"), before="running")
    assert found.kind == "rollout_paused"


@pytest.mark.parametrize("state", ["succeeded", "failed", "aborted", "rolled_back"])
def test_every_end_is_told_also_after_a_retry(state: str) -> None:
    found = told(changed(5, state), changed(6, "running", "retried by ann"), changed(9, state), before="running")
    assert [(one.kind, one.data["rollout"]["state"]) for one in found] == [("rollout_finished", state)] * 2
    assert len({one.key for one in found}) == 2


def test_ids_are_the_same_whoever_makes_them_and_differ_between_channels() -> None:
    channels = [Channel("ops", "slack"), Channel("dev", "slack")]
    first, again = (notices.deliveries(told(created()), channels) for _ in range(2))
    assert first == again
    assert len({one.id for one in first}) == 2
    assert first[0].body["id"] == first[0].id


def test_a_channel_is_told_of_its_tracks_and_kinds_only() -> None:
    channels = [Channel("a", "slack", tracks=("dw",)), Channel("b", "slack", kinds=("rollout_finished",))]
    assert notices.deliveries(told(created()), channels) == []
    assert [one.channel for one in notices.deliveries(told(created(), track="*"), channels)] == ["a"]


def test_secrets_in_reasons_are_masked() -> None:
    [found] = told(changed(2, "paused", "cannot reach postgresql://u:hunter2@h/db"), before="running")
    assert "hunter2" not in f"{found.text}{found.data}"


def test_a_throttled_shard_is_told_with_its_reason() -> None:
    since = datetime(2026, 1, 2, tzinfo=UTC)
    found = notices.throttled("pg-1", since, AT, 2, 8, "others use 90 of 100 connections", 660.0)
    assert found.text == (
        "shard pg-1 has been throttled for 11 min: 2 of 8 migrations at once; others use 90 of 100 connections"
    )
    assert found.track == "*"
