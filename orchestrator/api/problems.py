"""Errors as `application/problem+json` (RFC 9457): one table from our errors to answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from orchestrator import errors
from orchestrator.api.paging import CursorError
from orchestrator.observe import redact, requests

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: `slug` is the stable part of its type."""

    status: HTTPStatus
    slug: str
    title: str

    @property
    def type(self) -> str:
        return f"urn:orchestrator:problem:{self.slug}"


KINDS: Mapping[type[errors.OrchestratorError], Kind] = {
    errors.NotFoundError: Kind(HTTPStatus.NOT_FOUND, "not-found", "There is no such thing."),
    errors.ConflictError: Kind(
        HTTPStatus.CONFLICT, "targets-held", "Another active rollout holds some of the targets."
    ),
    errors.PlanChangedError: Kind(HTTPStatus.CONFLICT, "plan-changed", "What would run is no longer what was planned."),
    errors.ForbiddenError: Kind(HTTPStatus.FORBIDDEN, "forbidden", "Who asks may not do this."),
    errors.FrozenError: Kind(HTTPStatus.CONFLICT, "frozen", "Nothing may start on the fleet at present."),
    errors.StateError: Kind(HTTPStatus.CONFLICT, "wrong-state", "It is not in a state that allows this."),
    errors.RequestError: Kind(HTTPStatus.BAD_REQUEST, "request-refused", "The request cannot be met."),
    errors.RegistryError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "registry-mistakes", "The registry has mistakes."),
    errors.SelectorError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "selector", "The selector cannot be read."),
    errors.HistoryError: Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "history", "The migration history cannot be used."),
    errors.ConfigurationError: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "configuration", "The configuration is not valid."
    ),
    errors.UnavailableError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "Something needed cannot be reached."),
}
INVALID = Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "The request is not valid.")
KEY_REUSED = Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The key stands for another request.")
NOT_READY = Kind(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "The daemon cannot take work.")
CROSS_SITE = Kind(HTTPStatus.FORBIDDEN, "cross-site", "Another web site may not change anything here.")
UNAUTHENTICATED = Kind(HTTPStatus.UNAUTHORIZED, "unauthenticated", "It is not known who asks.")
FORBIDDEN = KINDS[errors.ForbiddenError]
TOO_LARGE = Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The request's body is too large.")
UNSUPPORTED_TYPE = Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The request's body is not JSON.")
TOO_OFTEN = Kind(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", "The client asks too often.")
UNREADABLE = Kind(HTTPStatus.BAD_REQUEST, "bad-request", "The request cannot be read.")
UNEXPECTED = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected", "Something unexpected went wrong.")


# Of what the framework refuses by itself. Its own words for a status change between releases of Python.
_BY_STATUS = {kind.status: kind for kind in (KINDS[errors.NotFoundError], TOO_LARGE, UNREADABLE)}


class FieldProblem(BaseModel):
    field: str = Field(description="Where: `body.track`, `query.limit`, `header.idempotency-key`.")
    message: str


class MistakeProblem(BaseModel):
    line: int
    column: int
    path: str
    message: str


class Problem(BaseModel):
    """What went wrong, where, and what to do next. Members that say nothing are left out."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str | None = Field(None, description="What to do next.")
    rollout: str | None = Field(None, description="The rollout in the way.")
    targets: list[str] | None = Field(None, description="The targets that it holds.")
    differences: list[str] | None = Field(None, description="What is no longer as it was planned.")
    errors: list[FieldProblem] | None = None
    mistakes: list[MistakeProblem] | None = None
    reasons: dict[str, str] | None = Field(None, description="What is not ready, by name.")
    needs: str | None = Field(None, description="The role that is needed.")
    has: str | None = Field(None, description="The role of who asks.")
    retry_after_seconds: int | None = Field(None, description="When to ask again; also in `Retry-After`.")
    request_id: str | None = Field(None, description="Of this request: the same as in the header and in the log.")


# What FastAPI is told; `openapi` names the statuses that each operation can have.
RESPONSES: dict[int | str, dict[str, Any]] = {"default": {"model": Problem, "description": "A problem"}}


def kind_of(error: errors.OrchestratorError) -> Kind | None:
    """The nearest kind in the table; None for an error that no request should meet."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), None)


def problem(kind: Kind, detail: str, **members: Any) -> Problem:
    return Problem(type=kind.type, title=kind.title, status=kind.status, detail=redact.text(detail), **members)


def told(error: errors.OrchestratorError, kind: Kind) -> Problem:
    """The problem that tells of `error`."""
    members: dict[str, Any] = {"remedy": error.remedy}
    match error:
        case errors.ConflictError():
            members |= {"rollout": error.rollout, "targets": list(error.targets)}
        case errors.PlanChangedError():
            members["differences"] = [redact.text(line) for line in error.differences]
        case errors.RegistryError():
            members["mistakes"] = [
                MistakeProblem(line=m.line, column=m.column, path=m.path, message=redact.text(m.message))
                for m in error.mistakes
            ]
    return problem(kind, error.message, **members)


def listed(found: Sequence[Mapping[str, Any]]) -> list[FieldProblem]:
    """The fields that are wrong and why, never their values."""
    return [FieldProblem(field=_field(e["loc"]), message=str(e["msg"])) for e in found]


def _field(where: Sequence[str | int]) -> str:
    """
    >>> _field(("header", "Last-Event-ID")), _field(("body", "waves", 2))
    ('header.last-event-id', 'body.waves.2')
    """
    field = ".".join(map(str, where))
    return field.lower() if where and where[0] == "header" else field


def invalid(fields: list[FieldProblem], remedy: str | None = None) -> Problem:
    detail = "; ".join(f"{field.field}: {field.message}" for field in fields)
    return problem(INVALID, detail, errors=fields, remedy=remedy)


def answer(body: Problem, headers: Mapping[str, str] | None = None) -> Response:
    body = body.model_copy(update={"request_id": requests.current()})
    # ASCII only: a name with a lone surrogate must come back as an answer, not as an encoding error.
    content = json.dumps(body.model_dump(exclude_none=True, warnings=False))
    later = body.retry_after_seconds
    if later is None and body.status == HTTPStatus.SERVICE_UNAVAILABLE:
        later = RETRY_AFTER_SECONDS
    if later is not None:
        headers = {"Retry-After": str(later), **(headers or {})}
    return Response(content, body.status, headers=headers, media_type=MEDIA_TYPE)


class Refused(Exception):
    """An endpoint's answer is a problem that none of our errors stands for."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        self.problem, self.headers = problem, headers
        super().__init__(problem.detail)


async def _on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return answer(error.problem, error.headers)


def of(error: errors.OrchestratorError) -> Response:
    """The answer that tells of an error of the table."""
    kind = kind_of(error)
    assert kind is not None
    return answer(told(error, kind))


async def _on_orchestrator_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.OrchestratorError)
    return of(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    kind = _BY_STATUS.get(status) or Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
    headers = {"Allow": _allowed(request)} if status is HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    return answer(problem(kind, f"{request.method} {request.url.path}: {error.detail}"), headers)


def _allowed(request: Request) -> str:
    """Every method of the place: the framework names those of the first route that has it."""
    scope = request.scope
    found = [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(found)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(invalid(listed(error.errors())))


async def _on_cursor_error(_request: Request, error: Exception) -> Response:
    return answer(invalid([FieldProblem(field="query.cursor", message=str(error))]))


def install(app: FastAPI) -> None:
    """Answer every expected error of `app` from here; the rest is `boundary`'s."""
    for error in KINDS:
        app.add_exception_handler(error, _on_orchestrator_error)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(CursorError, _on_cursor_error)
