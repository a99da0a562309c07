"""The audit, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from orchestrator.access.chain import Row
from orchestrator.api import paging, schemas
from orchestrator.api.dependencies import Guarding

router = APIRouter(prefix="/api/v1/audit", tags=["access"])


class AuditEntry(schemas.Body):
    """One act, just as it is hashed but for `hash`: sorted keys, no blanks, ASCII."""

    model_config = ConfigDict(extra="allow")

    sequence: int
    previous: str = Field(description="The hash of the entry before; 64 zeros for the first.")
    hash: str = Field(description="SHA-256 over this entry as canonical JSON, without `hash`.")
    at: str
    action: str = Field(description="The operation, as `operationId` names it, or what a terminal did.")
    by: str = Field(description="user:…, oidc:…, terminal:…, schedule:…, or a name that nobody has proved.")
    proved: bool
    role: str | None
    address: str | None = Field(description="Where it was asked from.")
    remark: str | None = Field(description="X-Requested-By of somebody whose token says who they are.")
    request: str | None
    rollout: str | None
    plan_digest: str | None = Field(description="Of the plan that the rollout is bound to.")
    history_digests: dict[str, str] = Field(description="Of env.py and revision files, by track.")
    outcome: str = Field(description="done, refused or failed.")
    reason: str | None
    details: dict[str, Any]


class AuditPage(schemas.Page[AuditEntry]):
    head: str | None = Field(
        description="Number and hash of the last entry, as the store had noted them before it was asked for this page; "
        "null where that note is gone."
    )


class AuditQuery(paging.PageQuery):
    after: int = Field(0, ge=0, le=2**31 - 1, description="Begin after this entry.")


@router.get("")
async def list_audit(query: Annotated[AuditQuery, Query()], access: Guarding) -> AuditPage:
    """Oldest first."""
    after = paging.decode(query.cursor, "audit", int) if query.cursor else query.after
    head = await access.audit.head()  # before the rows: so no entry that it tells of is too new to be among them
    rows = await access.audit.entries(after=after, limit=query.limit + 1)
    page, next_cursor = paging.cut(rows, query.limit, "audit", lambda row: row.sequence)
    return AuditPage(
        items=[shown(row) for row in page], next_cursor=next_cursor, head=None if head is None else str(head)
    )


def shown(row: Row) -> AuditEntry:
    """As it stands there, even where somebody has changed it: what is wrong with it, `audit verify` tells."""
    return AuditEntry.model_construct(**row.values)
