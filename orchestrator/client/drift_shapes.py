"""What is told of drift, as JSON has it."""

from __future__ import annotations

from typing import TypedDict


class TargetSchema(TypedDict):
    """How a target's schema compares with those of the others at its revision."""

    tenant: str
    track: str
    shard: str
    standing: str
    heads: list[str]
    server: str | None
    reference: str | None
    differing: int | None
    difference: list[str]
    message: str | None
    drifted_since: str | None
    looked_at: str


class Looking(TypedDict):
    """The tracks that are looked at soon."""

    tracks: list[str]


class DriftReport(TypedDict):
    """How many targets there are of each standing, and those that are not equal; or the tenant's that was named."""

    counts: dict[str, int]
    targets: list[TargetSchema]
