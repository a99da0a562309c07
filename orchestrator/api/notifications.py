"""Who was told of what, and what could not be delivered."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from orchestrator.api import paging, schemas
from orchestrator.api.dependencies import Service
from orchestrator.errors import NotFoundError
from orchestrator.events import now
from orchestrator.notify.ports import Kept, State

router = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])


class NotificationsQuery(paging.PageQuery):
    state: list[State] = Field([], description="`dead` for the dead letters; none for all.")
    channel: list[schemas.Word] = Field([], description="Names of `notifications` entries; none for all.")


class Notification(schemas.Body):
    """A delivery. A receiver finds `id` in the header `webhook-id`, the same for each attempt."""

    id: str
    channel: str
    type: str
    state: State
    attempts: int
    error: str | None = Field(description="Why the last attempt failed.")
    created_at: schemas.Moment
    next_at: schemas.Moment | None = Field(description="When it is tried again.")
    finished_at: schemas.Moment | None
    event: dict[str, Any] = Field(description="What is sent.")


def notification(kept: Kept) -> Notification:
    sent = kept.delivery
    return Notification(
        id=sent.id,
        channel=sent.channel,
        type=sent.kind,
        state=kept.state,
        attempts=sent.attempts,
        error=schemas.masked(kept.error),
        created_at=kept.created_at,
        next_at=kept.next_at,
        finished_at=kept.finished_at,
        event=dict(sent.body),
    )


@router.get("")
async def list_notifications(
    query: Annotated[NotificationsQuery, Query()], service: Service
) -> schemas.Page[Notification]:
    """Newest first. Those that were delivered are kept for 7 days, dead letters for 30."""
    before = paging.decode(query.cursor, "notifications", int) if query.cursor else None
    found = await service.notifications.listed(
        states=query.state, channels=query.channel, limit=query.limit + 1, before=before
    )
    page, next_cursor = paging.cut(found, query.limit, "notifications", lambda it: it.number)
    return schemas.Page(items=[notification(it) for it in page], next_cursor=next_cursor)


@router.post("/{notification_id}/retry")
async def retry_notification(notification_id: str, service: Service) -> Notification:
    """Send a dead letter again, or one that waits for its next attempt at once."""
    if not paging.is_possible(notification_id):
        raise NotFoundError(
            f"there is no notification {notification_id!r}", remedy="GET /api/v1/notifications lists them"
        )
    return notification(await service.notifications.retry(notification_id, now()))
