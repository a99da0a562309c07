"""The backfills of a rollout that are underway, from its events here or from what a daemon is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.cli.moments import BackfillMoment
from orchestrator.client.shapes import Backfill

Key = tuple[str, str, str, int]  # tenant, track, revision, ordinal


@dataclass(slots=True)
class Backfills:
    """Fold events in with `apply`, or `put` what was asked."""

    _found: dict[Key, BackfillMoment] = field(default_factory=dict)
    _shards: dict[Key, str] = field(default_factory=dict)
    # By shard and reason, and by tenant and track where it is only one target's.
    _holds: dict[tuple[str, str, str | None, str | None], str] = field(default_factory=dict)

    def apply(self, name: str, data: Mapping[str, Any]) -> None:
        match name:
            case "BackfillStarted" | "BackfillProgressed":
                key = _key(data)
                self._found[key], self._shards[key] = _moment(data), data["shard"]
            case "BackfillFinished" | "BackfillStopped":
                self._forget(_key(data))
            case "MigrationFinished":
                for key in [key for key in self._found if key[:2] == (data["tenant"], data["track"])]:
                    self._forget(key)
            case "BackfillHeld":
                self._holds[_holder(data)] = data["text"]
            case "BackfillReleased":
                self._holds.pop(_holder(data), None)

    def put(self, found: Iterable[Backfill]) -> None:
        self._holds.clear()
        self._found = {(it["tenant"], it["track"], it["revision"], it["ordinal"]): moment_of(it) for it in found}

    def moments(self) -> tuple[BackfillMoment, ...]:
        return tuple(self._waiting(key, one) for key, one in self._found.items())

    def _waiting(self, key: Key, one: BackfillMoment) -> BackfillMoment:
        if not self._holds:
            return one
        held = self._holds.items()
        own = [text for (_, _, tenant, track), text in held if (tenant, track) == key[:2]]
        whole = [text for (shard, _, tenant, _), text in held if tenant is None and shard == self._shards.get(key)]
        waits = [*own, *whole]
        if not waits:
            return one
        return replace(one, rate=None, eta_seconds=None, waits="; ".join(waits))

    def _forget(self, key: Key) -> None:
        self._found.pop(key, None)
        self._shards.pop(key, None)


def moment_of(it: Backfill) -> BackfillMoment:
    """One as a daemon tells it."""
    waits = "; ".join(hold["text"] for hold in it["holds"]) or None
    return BackfillMoment(
        it["tenant"],
        it["revision"],
        it["rows_seen"],
        it["rows_estimated"],
        it["ratio"],
        None if waits else it["rows_per_second"],  # of a time that is over
        None if waits else it["eta_seconds"],
        waits,
    )


def _moment(data: Mapping[str, Any]) -> BackfillMoment:
    seen, estimated = data["seen"], data.get("estimated")
    ratio = min(seen / estimated, 0.99) if estimated else None
    rate, eta = data.get("rows_per_second"), data.get("eta_seconds")
    return BackfillMoment(data["tenant"], data["revision"], seen, estimated, ratio, rate, eta)


def _key(data: Mapping[str, Any]) -> Key:
    return data["tenant"], data["track"], data["revision"], data["ordinal"]


def _holder(data: Mapping[str, Any]) -> tuple[str, str, str | None, str | None]:
    return data["shard"], data["reason"], data.get("tenant"), data.get("track")
