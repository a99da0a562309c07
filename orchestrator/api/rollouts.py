"""Rollouts: start, look, steer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field
from starlette.status import HTTP_200_OK, HTTP_201_CREATED

from orchestrator.api import paging, problems, schemas, time_schemas
from orchestrator.api.dependencies import Client, Service, changes_nothing
from orchestrator.registry.model import Registry
from orchestrator.rollout.ports import MigrationField, RolloutField
from orchestrator.rollout.state import EVERY, MigrationState, Request, Rollout, RolloutState

router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A word of your own for this rollout, such as the name of a release or of a CI run.",
    ),
]

Traceparent = Annotated[
    str | None,
    Header(
        description="The trace of whoever asks (W3C Trace Context): where traces are on, that of the rollout links to "
        "it. One that is not well formed is ignored."
    ),
]


class RolloutsQuery(paging.PageQuery):
    state: list[RolloutState] = Field([], max_length=50, description="Rollout states; none for all.")
    track: schemas.Word | None = Field(None, description="Those that were asked for this track; `*`: for every track.")
    strategy: schemas.Word | None = Field(None, description="Those that go by this strategy.")
    created_by: schemas.Word | None = Field(None, description="Those that this client asked for.")

    def only(self) -> dict[RolloutField, str]:
        given: dict[RolloutField, str | None] = {
            "track": self.track,
            "strategy": self.strategy,
            "created_by": self.created_by,
        }
        return {name: value for name, value in given.items() if value is not None}


class MigrationsQuery(paging.PageQuery):
    state: list[MigrationState] = Field([], max_length=50, description="Migration states; none for all.")
    tenant: schemas.Word | None = Field(None, description="Only this tenant's.")
    track: schemas.Word | None = Field(None, description="Only those of this track.")
    shard: schemas.Word | None = Field(None, description="Only those on this shard.")
    wave: schemas.Word | None = Field(None, description="Only those of this wave.")

    def only(self) -> dict[MigrationField, str]:
        given: dict[MigrationField, str | None] = {
            "tenant": self.tenant,
            "track": self.track,
            "shard": self.shard,
            "wave": self.wave,
        }
        return {name: value for name, value in given.items() if value is not None}


def requested(
    body: schemas.StartRollout, client: str, idempotency_key: str | None, traceparent: str | None = None
) -> Request:
    return Request(
        track=body.track,
        to=body.to,
        select=body.select,
        strategy=body.strategy,
        direction=body.direction,
        created_by=client,
        idempotency_key=idempotency_key,
        plan_digest=body.plan_digest,
        traceparent=traceparent,
    )


def same(asked: Request, earlier: Request, registry: Registry) -> bool:
    """Whether two requests under one idempotency key ask for the same rollout."""

    def meant(request: Request) -> tuple[str | None, ...]:
        bound = request.plan_digest
        return (request.track, request.select, request.strategy, request.direction, bound)

    goals = {asked.to}
    if asked.to == EVERY and asked.track in registry.tracks:
        goals.add(registry.tracks[asked.track].goal)  # what it was written down as
    return meant(asked) == meant(earlier) and earlier.to in goals


def reused(earlier: Rollout) -> problems.Problem:
    return problems.problem(
        problems.KEY_REUSED,
        f"the idempotency key was used for rollout {earlier.id}, which asks for something else",
        remedy="use a new key for a new rollout",
        rollout=earlier.id,
    )


@router.post(
    "",
    status_code=HTTP_201_CREATED,
    responses={HTTP_200_OK: {"model": schemas.Preview | schemas.Rollout, "description": "Dry run, or made earlier"}},
)
async def start_rollout(
    body: schemas.StartRollout,
    response: Response,
    service: Service,
    client: Client,
    idempotency_key: IdempotencyKey = None,
    traceparent: Traceparent = None,
) -> schemas.Rollout | schemas.Preview:
    """Freeze the selected targets and begin.

    With an `Idempotency-Key`, a repeated call answers 200 with the rollout that the first one made, for 24 hours and
    across restarts. The same key for something else is refused with 422. What was refused may be asked again with its
    key, and a dry run takes none.
    """
    asked = requested(body, client, idempotency_key, traceparent)
    if body.dry_run:
        changes_nothing()
        response.status_code = HTTP_200_OK
        return schemas.preview(asked, await service.preview(asked))
    view, created = await service.start_rollout(asked)
    if not created and not same(asked, view.rollout.request, service.registry):
        raise problems.Refused(reused(view.rollout))
    if not created:
        changes_nothing()
    response.status_code = HTTP_201_CREATED if created else HTTP_200_OK
    response.headers["Location"] = f"{router.prefix}/{view.rollout.id}"
    return schemas.rollout(view)


@router.get("")
async def list_rollouts(query: Annotated[RolloutsQuery, Query()], service: Service) -> schemas.Page[schemas.Rollout]:
    """Newest first, without their failures."""
    before = paging.decode(query.cursor, "rollouts", str) if query.cursor else None
    views = await service.rollouts(states=query.state, only=query.only(), limit=query.limit + 1, before=before)
    page, next_cursor = paging.cut(views, query.limit, "rollouts", lambda view: view.rollout.id)
    return schemas.Page(items=[schemas.rollout(view) for view in page], next_cursor=next_cursor)


@router.get("/{rollout_id}")
async def show_rollout(rollout_id: str, service: Service) -> schemas.Rollout:
    return schemas.rollout(await service.rollout(rollout_id))


@router.get("/{rollout_id}/migrations")
async def list_migrations(
    rollout_id: str, query: Annotated[MigrationsQuery, Query()], service: Service
) -> schemas.Page[schemas.Migration]:
    """In the order in which the rollout goes over them."""
    after = paging.decode(query.cursor, "migrations", int) if query.cursor else -1
    found = await service.migrations(
        rollout_id, states=query.state, only=query.only(), limit=query.limit + 1, after=after
    )
    if not found:
        await service.rollout(rollout_id)  # no such rollout is not the same as nothing found
    page, next_cursor = paging.cut(found, query.limit, "migrations", lambda it: it.position)
    return schemas.Page(items=[schemas.migration(it) for it in page], next_cursor=next_cursor)


@router.post("/{rollout_id}/pause")
async def pause_rollout(rollout_id: str, service: Service, client: Client) -> schemas.Rollout:
    """Start no further migration; those that run are finished."""
    return schemas.rollout(await service.pause(rollout_id, by=client))


@router.post("/{rollout_id}/resume")
async def resume_rollout(rollout_id: str, service: Service, client: Client) -> schemas.Rollout:
    return schemas.rollout(await service.resume(rollout_id, by=client))


@router.post("/{rollout_id}/approve")
async def approve_rollout(
    rollout_id: str, service: Service, client: Client, body: schemas.Approval | None = None
) -> schemas.Rollout:
    """Let the rollout pass the gate that it waits at."""
    wave = body.wave if body else None
    return schemas.rollout(await service.approve(rollout_id, by=client, wave=wave))


@router.post("/{rollout_id}/abort")
async def abort_rollout(
    rollout_id: str, service: Service, client: Client, body: schemas.Abort | None = None
) -> schemas.Rollout:
    """End the rollout; what has not started never will. What runs is finished, unless `force` cancels it."""
    return schemas.rollout(await service.abort(rollout_id, by=client, force=bool(body and body.force)))


@router.post("/{rollout_id}/retry")
async def retry_rollout(
    rollout_id: str, service: Service, client: Client, body: schemas.Retry | None = None
) -> schemas.Rollout:
    """Try the targets again that failed, were locked, unreachable or ahead; with a `signature`, those of one cause."""
    signature = body.signature if body else None
    return schemas.rollout(await service.retry(rollout_id, by=client, signature=signature))


@router.post("/{rollout_id}/rollback")
async def rollback_rollout(rollout_id: str, service: Service, client: Client) -> schemas.Rollout:
    """Bring exactly the targets that the rollout changed back to the heads it found, in reverse order of its waves."""
    return schemas.rollout(await service.rollback(rollout_id, by=client))


@router.post("/{rollout_id}/skip")
async def skip_tenant(rollout_id: str, body: schemas.Skip, service: Service, client: Client) -> schemas.Rollout:
    """Leave a tenant out that is pending or has failed."""
    skipped = service.skip(rollout_id, by=client, tenant=body.tenant, track=body.track, reason=body.reason)
    return schemas.rollout(await skipped)


@router.post("/{rollout_id}/limit")
async def limit_rollout(rollout_id: str, body: schemas.Limit, service: Service, client: Client) -> schemas.Rollout:
    """Change how many of its targets are migrated at once; what runs goes on."""
    return schemas.rollout(await service.limit(rollout_id, by=client, max_concurrent=body.max_concurrent))


@router.post("/{rollout_id}/override")
async def override_windows(
    rollout_id: str, body: time_schemas.Override, service: Service, client: Client
) -> schemas.Rollout:
    """Let what is left of the rollout start outside of its targets' windows, too. A freeze still holds."""
    return schemas.rollout(await service.override(rollout_id, by=client, reason=body.reason))
