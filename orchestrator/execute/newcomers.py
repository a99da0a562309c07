"""What becomes of a target without a version table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import MigrationFailedError, TargetError, TargetSkippedError
from orchestrator.registry.model import Target, Track

NAMES_SHOWN = 5


def verdict(track: Track, target: Target, tables: Sequence[str]) -> TargetError | str | None:
    """The error with which the target ends, the revision that it is to be stamped with first, or None: migrate it.

    `tables` are some of those that are there. Where there are any, running the first revision would fail at best, and
    at worst change what somebody else has made.
    """
    if tables and target.adopt is not None:
        return target.adopt
    if track.unprovisioned == "skip":
        return TargetSkippedError(
            "it has no version table; the track says `unprovisioned: skip`",
            remedy=f"set `unprovisioned: migrate` on track {track.name!r} to have such targets migrated",
        )
    if track.unprovisioned == "fail":
        return MigrationFailedError(
            "it has no version table; the track says `unprovisioned: fail`. Nothing was run",
            kind="unprovisioned",
            remedy=f"stamp it, or set `unprovisioned: migrate` on track {track.name!r}",
        )
    if tables:
        more = ", …" if len(tables) > NAMES_SHOWN else ""
        return MigrationFailedError(
            f"it has no version table, but tables: {', '.join(tables[:NAMES_SHOWN])}{more}. Nothing was run",
            kind="not_adopted",
            remedy="say with `adopt: <revision>` at which revision it is, and it is stamped with that first; or check "
            "that `version_table` is right",
        )
    return None
