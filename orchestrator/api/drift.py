"""Drift: whose schema differs from that of the others at its revision."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api import paging, schemas
from orchestrator.api.dependencies import Client, Service
from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.model import TargetKey

router = APIRouter(prefix="/api/v1/drift", tags=["drift"])


class TargetSchema(schemas.Body):
    """How a target's schema compares with those of the others at its revision, when it was last looked at."""

    tenant: str
    track: str
    shard: str
    standing: Standing = Field(
        description="`drifted`: it is not as most are; `undecided`: there is no majority; `alone`: there is nothing to "
        "compare it with; `unprovisioned`: it claims no revision; `unread`: its schema could not be read."
    )
    heads: list[str] = Field(description="The revisions that it claims to be at.")
    server: str | None = Field(description="Kind and version of its database, where these tell in a schema's text.")
    reference: str | None = Field(description="A tenant that is as this one should be.")
    differing: int | None = Field(description="How many lines differ, all told; null where that was not counted.")
    difference: list[str] = Field(description="Some of them: `-` is the reference's, `+` the target's.")
    message: str | None = Field(description="Why it could not be judged.")
    drifted_since: schemas.Moment | None = Field(description="Null for one that has not drifted.")
    looked_at: schemas.Moment


class Looking(schemas.Body):
    tracks: list[str] = Field(description="They are looked at soon, one after the other.")


class DriftQuery(paging.PageQuery):
    track: schemas.Word | None = Field(None, description="Only targets of this track.")
    standing: list[Standing] = Field([], max_length=50, description="Only these standings; none for all.")


class Look(BaseModel):
    """Which track is to be looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    track: schemas.Word | None = Field(None, description="All that are looked at when left out.")


def encode(key: TargetKey) -> str:
    return paging.encode("drift", json.dumps(key, ensure_ascii=False))


def decode(cursor: str) -> TargetKey:
    """Raises CursorError."""
    try:
        tenant, track = json.loads(paging.decode(cursor, "drift", str))
    except (ValueError, TypeError, RecursionError) as exc:
        raise exc if isinstance(exc, paging.CursorError) else paging.CursorError("not a cursor of this API") from None
    if not all(isinstance(part, str) and paging.is_possible(part) for part in (tenant, track)):
        raise paging.CursorError("not a cursor of this API")
    return TargetKey(tenant, track)


@router.get("")
async def list_drift(query: Annotated[DriftQuery, Query()], service: Service) -> schemas.Page[TargetSchema]:
    """By tenant, as they were last looked at. A target that no look has come to yet is not among them."""
    after = decode(query.cursor) if query.cursor else None
    found = await service.drifting.listed(
        track=query.track, standings=query.standing, limit=query.limit + 1, after=after
    )
    page = found[: query.limit]
    following = encode(page[-1].key) if len(found) > query.limit else None
    return schemas.Page(items=[schema(record) for record in page], next_cursor=following)


@router.post("/look")
async def look_for_drift(body: Look, service: Service, client: Client) -> Looking:
    """Have the process that leads compare schemas soon, whatever its interval. Targets that a rollout holds are left
    out."""
    return Looking(tracks=list(await service.drifting.ask_look(by=client, track=body.track)))


def schema(record: Record) -> TargetSchema:
    return TargetSchema(
        tenant=record.tenant,
        track=record.track,
        shard=record.shard,
        standing=record.standing,
        heads=list(record.heads),
        server=record.server,
        reference=record.reference,
        differing=record.differing,
        difference=list(record.lines),
        message=schemas.masked(record.message),
        drifted_since=record.drifted_since,
        looked_at=record.looked_at,
    )
