"""Tokens, for admins. Their secrets are in one answer each, and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.status import HTTP_201_CREATED

from orchestrator.access import tokens
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Minted, Token
from orchestrator.api import paging, schemas
from orchestrator.api.dependencies import Client, Guarding
from orchestrator.errors import NotFoundError, StateError
from orchestrator.events import now

router = APIRouter(prefix="/api/v1/tokens", tags=["access"])

LONGEST_SECONDS = 10 * 366 * 86_400


class CreateToken(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=f"^{tokens.NAME.pattern}$", description="Whose it is: what rollouts and audit say.")
    role: Role = Field(strict=False)
    expires_seconds: float | None = Field(
        None, gt=0, le=LONGEST_SECONDS, description="How long it counts; none for until it is revoked."
    )


class ShownToken(schemas.Body):
    """A token without its secret."""

    id: str
    name: str
    role: Role
    state: tokens.State
    source: tokens.Source = Field(description="`file` for one that ORCHESTRATOR_TOKENS_FILE names.")
    created_at: schemas.Moment | None
    created_by: str | None
    expires_at: schemas.Moment | None
    revoked_at: schemas.Moment | None
    revoked_by: str | None
    last_used_at: schemas.Moment | None = Field(description="To the minute.")


class NewToken(ShownToken):
    token: str = Field(description="The secret. It is shown here, and never again.")


@router.post("", status_code=HTTP_201_CREATED)
async def create_token(body: CreateToken, response: Response, access: Guarding, client: Client) -> NewToken:
    """Make a token. Its secret is in this answer only: keep it."""
    moment = now()
    ends = None if body.expires_seconds is None else moment + timedelta(seconds=body.expires_seconds)
    minted = tokens.mint(body.name, body.role, created_by=client, now=moment, expires_at=ends)
    await access.door.add(minted.token)
    response.headers["Cache-Control"] = "no-store"
    return new(minted)


@router.get("")
async def list_tokens(query: Annotated[paging.PageQuery, Query()], access: Guarding) -> schemas.Page[ShownToken]:
    """Every token, also those that are revoked or have expired; never their secrets."""
    after = paging.decode(query.cursor, "tokens", str) if query.cursor else ""
    found = await access.door.listed(after=after, limit=query.limit + 1)
    page, next_cursor = paging.cut(found, query.limit, "tokens", lambda token: token.id)
    return schemas.Page(items=[shown(token) for token in page], next_cursor=next_cursor)


@router.post("/{token_id}/revoke")
async def revoke_token(token_id: str, access: Guarding, client: Client) -> ShownToken:
    """From now on the token does not count, and open event streams of its owner end within seconds."""
    if access.door.is_filed(token_id):
        raise StateError(
            f"token {token_id} is named by the tokens file, which is not the daemon's to change",
            remedy="take its entry out of the file; the daemon reads it again by itself",
        )
    if not paging.is_possible(token_id):
        raise NotFoundError(f"there is no token {token_id!r} in the store", remedy="GET /api/v1/tokens lists them")
    return shown(await access.door.revoke(token_id, by=client))


def shown(token: Token) -> ShownToken:
    return ShownToken(
        id=token.id,
        name=token.name,
        role=token.role,
        state=token.state(now()),
        source=token.source,
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        revoked_by=token.revoked_by,
        last_used_at=token.last_used_at,
    )


def new(minted: Minted) -> NewToken:
    return NewToken(**dict(shown(minted.token)), token=minted.text)
