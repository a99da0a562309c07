"""Who asks, and whether they may: asked of every request before anything of it is read, and again of its operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import Scope

from orchestrator.access import addresses, callers
from orchestrator.access.acts import Pending
from orchestrator.access.addresses import Networks
from orchestrator.access.callers import Caller
from orchestrator.access.chain import Anchor, Row
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Token
from orchestrator.api import permissions, problems
from orchestrator.errors import ForbiddenError

REALM = 'Bearer realm="orchestrator"'
_FIRST_TOKEN = (
    "make the first token where the daemon's store can be reached: orchestrator token create --role admin --name …"
)


class Stranger(Exception):
    """Whoever asks does not prove who they are; the message says what is wrong with the token."""


class Door(Protocol):
    """Knows who has which token."""

    async def closed(self) -> bool:
        """Whether everybody must prove who they are. Raises StoreError."""
        ...

    async def admit(self, bearer: str) -> Caller:
        """Who has this token. Raises Stranger, and UnavailableError when that cannot be told now."""
        ...

    async def listed(self, *, after: str = "", limit: int = 10_000) -> Sequence[Token]:
        """Every token that is known, by id."""
        ...

    async def add(self, token: Token) -> None: ...

    async def revoke(self, token_id: str, *, by: str) -> Token:
        """The token, as it is then. Raises NotFoundError for one that the store does not have."""
        ...

    def is_filed(self, token_id: str) -> bool:
        """Whether a file names the token, so that only the file can revoke it."""
        ...


class Audit(Protocol):
    """Raises StoreError."""

    async def note(self, act: Pending) -> None:
        """Record an act, unless it is recorded; durable when this returns."""
        ...

    async def entries(self, *, after: int = 0, limit: int = 100) -> Sequence[Row]:
        """Oldest first."""
        ...

    async def head(self) -> Anchor | None:
        """The store's note of the last entry; None when there is none any more."""
        ...


@dataclass(frozen=True)
class Access:
    """What the HTTP surface knows of access. `listens_on`: while nobody needs a token, requests of this machine must
    name it by that host, or by one that is surely its own; None: by any."""

    door: Door
    audit: Audit
    metrics_need_token: bool = False
    trusted_proxies: Networks = field(default_factory=tuple)
    listens_on: str | None = None

    async def caller(self, scope: Scope) -> Caller:
        """Who asks. Raises Stranger where that must be proved and is not, ForbiddenError, StoreError and
        UnavailableError."""
        headers = Headers(scope=scope)
        public = permissions.PUBLIC_PATHS.get(scope["path"])
        if public and permissions.least(public, metrics_need_token=self.metrics_need_token) is None:
            return Caller(callers.ANYBODY, None)
        if not await self.door.closed():
            self._refuse_foreign_name(scope, headers)
            return Caller(callers.unproved(headers.get("x-requested-by")), Role.ADMIN)
        return await self.door.admit(bearer(headers))

    def _refuse_foreign_name(self, scope: Scope, headers: Headers) -> None:
        """A page whose own name was made to lead to this machine would be of our origin to the browser. Raises
        ForbiddenError."""
        if self.listens_on is None or not addresses.names_loopback(self.address(scope) or ""):
            return
        name = addresses.host_of(headers.get("host", ""))
        if name not in ("", self.listens_on.lower()) and not addresses.names_loopback(name):
            raise ForbiddenError(
                f"the request calls this machine {name!r}, which is not how the daemon is known here",
                remedy=f"ask for localhost or {self.listens_on}; or {_FIRST_TOKEN}",
            )

    def address(self, scope: Scope) -> str | None:
        """Where a request comes from."""
        forwarded = Headers(scope=scope).getlist("x-forwarded-for")
        return addresses.client((scope.get("client") or (None,))[0], forwarded, self.trusted_proxies)


def bearer(headers: Headers) -> str:
    """The token that a request brings. Raises Stranger.

    >>> bearer(Headers({"authorization": "bearer abc"}))
    'abc'
    """
    given = headers.getlist("authorization")
    if not given:
        raise Stranger("")
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip() or not token.isascii():
        raise Stranger("the Authorization header holds no bearer token")
    return token.strip()


def unauthenticated(reason: str) -> tuple[problems.Problem, Mapping[str, str]]:
    """The answer to somebody who does not prove who they are; `reason` is empty where nothing was tried."""
    challenge = f'{REALM}, error="invalid_token", error_description="{reason}"' if reason else REALM
    told = problems.problem(
        problems.UNAUTHENTICATED,
        reason or "this needs a token",
        remedy="send `Authorization: Bearer …`; the command line takes it from ORCHESTRATOR_TOKEN",
    )
    return told, {"WWW-Authenticate": challenge}


def refusal(caller: Caller, operation: str, access: Access) -> problems.Problem | None:
    """Why this caller may not do this; None if they may."""
    try:
        least = permissions.least(operation, metrics_need_token=access.metrics_need_token)
    except KeyError:
        least = Role.ADMIN
        if caller.proved:
            return problems.problem(
                problems.FORBIDDEN,
                f"nobody may do this: {operation} stands in no table of roles",
                remedy="this is a bug, please report it",
            )
    if least is None:
        return None
    if operation in permissions.PROVED and not caller.proved:
        told = "this needs an admin's token, and there is none yet"
        return problems.problem(problems.FORBIDDEN, told, remedy=_FIRST_TOKEN, needs=Role.ADMIN)
    if caller.may(least):
        return None
    has = caller.role or "no role"
    return problems.problem(
        problems.FORBIDDEN,
        f"this needs the role {least}, and {caller.name} has {has}",
        remedy=f"ask with a token of the role {least}",
        needs=least,
        has=caller.role,
    )


async def _authorise(
    request: Request, _documented: Annotated[Any, Security(HTTPBearer(auto_error=False, scheme_name="token"))]
) -> None:
    """For each operation, before it is run: whether its caller may."""
    access: Access | None = request.app.state.access
    if access is None:
        return
    operation = request.scope["route"].name
    caller: Caller = request.scope["state"]["caller"]
    if (refused := refusal(caller, operation, access)) is not None:
        raise problems.Refused(refused, {"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'})
    if operation in permissions.RECORDED_BEFORE:
        await access.audit.note(request.scope["state"]["act"])


AUTHORISED = Security(_authorise)


def declare(schema: dict[str, Any]) -> dict[str, Any]:
    """Say in an OpenAPI schema which operations need no token, and which role the others ask for."""
    for path in schema["paths"].values():
        for operation in path.values():
            name = operation["operationId"]
            if name in permissions.PUBLIC:
                operation["security"] = [{}] if name != "show_metrics" else [{}, {"token": []}]
            elif name in permissions.LEAST:
                operation["x-least-role"] = str(permissions.LEAST[name])
    return schema
