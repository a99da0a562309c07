"""Backfills: look, hold up, let go on, end, and change their pace."""

from __future__ import annotations

import json
from typing import Annotated, get_args

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api import backfill_schemas as shown
from orchestrator.api import paging, problems, schemas
from orchestrator.api.backfill_ports import Field as Name
from orchestrator.api.dependencies import Client, Service
from orchestrator.backfill.records import Key, State
from orchestrator.backfill.steering import Action, Adjustment, Order
from orchestrator.events import now

router = APIRouter(prefix="/api/v1/backfills", tags=["backfills"])


class BackfillsQuery(paging.PageQuery):
    rollout: schemas.Word | None = Field(None, description="Only those of this rollout.")
    shard: schemas.Word | None = Field(None, description="Only those on this shard.")
    tenant: schemas.Word | None = Field(None, description="Only this tenant's.")
    track: schemas.Word | None = Field(None, description="Only those of this track.")
    revision: schemas.Word | None = Field(None, description="Only those of this revision.")
    state: list[State] = Field([], max_length=50, description="Their states; none for all.")

    def only(self) -> dict[Name, str]:
        given: dict[Name, str | None] = {name: getattr(self, name) for name in get_args(Name)}
        return {name: value for name, value in given.items() if value is not None}


def encode(key: Key) -> str:
    return paging.encode("backfills", json.dumps(key, ensure_ascii=False))


def decode(cursor: str) -> Key:
    """Raises CursorError."""
    try:
        rollout, tenant, track, revision, direction, ordinal = json.loads(paging.decode(cursor, "backfills", str))
    except (ValueError, TypeError, RecursionError) as exc:
        raise exc if isinstance(exc, paging.CursorError) else paging.CursorError("not a cursor of this API") from None
    key = Key(rollout, tenant, track, revision, direction, ordinal)
    if not all(isinstance(part, str) and paging.is_possible(part) for part in key[:5]) or type(ordinal) is not int:
        raise paging.CursorError("not a cursor of this API")
    if not paging.is_possible(ordinal):
        raise paging.CursorError("not a cursor of this API")
    return key


@router.get("")
async def list_backfills(query: Annotated[BackfillsQuery, Query()], service: Service) -> schemas.Page[shown.Backfill]:
    """Those of the newest rollout first, then by tenant. What runs is as it is now; on a standby it is as the leader
    has written it down, at most some seconds ago."""
    after = decode(query.cursor) if query.cursor else None
    found = await service.backfills.listed(only=query.only(), states=query.state, limit=query.limit + 1, after=after)
    page = found[: query.limit]
    following = encode(page[-1].key) if len(found) > query.limit else None
    return schemas.Page(items=[shown.backfill(record) for record in page], next_cursor=following)


class SummaryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rollout: schemas.Word | None = Field(None, description="Of this rollout, also when it has ended.")
    track: schemas.Word | None = Field(None, description="Only of this track.")
    shard: schemas.Word | None = Field(None, description="Only on this shard.")


@router.get("/summary")
async def sum_up_backfills(query: Annotated[SummaryQuery, Query()], service: Service) -> shown.BackfillSummary:
    """One line for each revision over all targets of active rollouts that have begun its backfills, and the orders
    that stand."""
    names: tuple[Name, ...] = ("rollout", "track", "shard")
    only = {name: value for name in names if (value := getattr(query, name)) is not None}
    return shown.summary(await service.backfills.fleet(only))


@router.post("/pause")
async def pause_backfills(body: shown.OrderBackfills, service: Service, client: Client) -> shown.GivenOrder:
    """Hold these backfills at the end of the batch that runs, and those like them that begin later, until this scope
    or a wider one is resumed; also over restarts. Their targets stay locked, and their rollouts wait for them."""
    return await _ordered("pause", body, service, client)


@router.post("/resume")
async def resume_backfills(body: shown.OrderBackfills, service: Service, client: Client) -> shown.GivenOrder:
    """Take back each pause that lies within this scope: one that names all that is named here. A wider one stays, since
    it holds others as well: `paused_by` tells of it, and where there is no other, nothing is done and that is a
    conflict."""
    return await _ordered("resume", body, service, client)


@router.post("/abort")
async def abort_backfills(body: shown.OrderBackfills, service: Service, client: Client) -> shown.GivenOrder:
    """End what is underway at the end of the batch that runs: these targets fail, what was changed stays, and a retry
    goes on from there. Counts for none that begins later, also not for the next one of a target that is between two.
    Where one is in its last batch, its target fails before its next backfill."""
    return await _ordered("abort", body, service, client)


@router.post("/adjust")
async def adjust_backfills(body: shown.AdjustBackfills, service: Service, client: Client) -> shown.GivenOrder:
    """Change budget, duty, batch size or thresholds, from the next batch on and also over restarts, until `reset`."""
    said = shown.adjustment_of(body)
    nothing = said == Adjustment()
    if nothing and not body.reset:
        _refuse("reset", "nothing is changed: say what, or `reset` to have it as the registry says")
    if body.reset and not nothing:
        _refuse("reset", "takes everything back, and something else is said besides")
    return await _ordered("adjust", body, service, client, said)


async def _ordered(
    action: Action, body: shown.OrderBackfills, service: Service, client: str, said: Adjustment | None = None
) -> shown.GivenOrder:
    scope = shown.scope_of(body)
    named = [name for name in shown.SCOPES if getattr(body, name) is not None]
    if not named and not body.all:
        _refuse("all", f"say which backfills with {', '.join(shown.SCOPES)}, or `all` for every one of the fleet")
    if named and body.all:
        _refuse("all", f"says every backfill, and {named[0]} says which")
    order = Order(scope, action, client, now(), body.reason, said)
    return shown.given(order, await service.backfills.order(order))


def _refuse(field: str, message: str) -> None:
    raise problems.Refused(problems.invalid([problems.FieldProblem(field=f"body.{field}", message=message)]))
