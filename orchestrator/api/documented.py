"""What the OpenAPI document says of each operation, parameter and problem. A test holds it complete."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from orchestrator import errors
from orchestrator.api import (
    documented_administration,
    documented_backfills,
    documented_drift,
    examples,
    paging,
    problems,
)
from orchestrator.api.examples import ROLLOUT_ID, page, plain
from orchestrator.api.problems import FieldProblem, Kind, MistakeProblem, Problem, problem
from orchestrator.api.told import Problems, Told
from orchestrator.rollout import windows

_OK, _CREATED = HTTPStatus.OK, HTTPStatus.CREATED


def _changed(state: str = "as it is now") -> Mapping[HTTPStatus, dict[str, Any]]:
    return {_OK: {state: plain(examples.RUNNING)}}


ABOUT = """Times are ISO 8601 in UTC, durations are seconds. Errors are `application/problem+json` (RFC 9457), and
`remedy` says what to do next. Lists are paged: `next_cursor` of a page is the `cursor` of the next. Every answer has an
`X-Request-ID`, yours if you send one; the daemon's log has it, too. Members are only ever added to answers."""

TAGS = {
    "operations": "Health, metrics, and the registry of tenants.",
    "tenants": "Who there is, and what was last seen of their databases.",
    "rollouts": "What would be done, what is done, and how to steer it.",
    "schedules": "Rollouts that start by the clock.",
    "backfills": "Data that is changed in batches: how far it is, why it waits, and how to steer it.",
    "drift": "Whose schema differs from that of the others at its revision.",
    "freeze": "A stop of every start, on the whole fleet.",
    "notifications": "Who was told of what.",
    "access": "Tokens, and the record of who did what.",
}

ANSWERED = {_OK: "It is answered.", _CREATED: "It was made."}

PARAMETERS = {
    "rollout_id": "The rollout's `id`.",
    "tenant": "The tenant's name, as the registry has it.",
    "limit": "The most items of a page.",
    "name": "The schedule's name, as the registry has it.",
    "notification_id": "The delivery's `id`.",
    "token_id": "The token's `id`, which is no secret.",
}

PARAMETER_EXAMPLES: Mapping[str, Any] = {
    "rollout_id": ROLLOUT_ID,
    "tenant": "acme",
    "name": "nightly",
    "notification_id": examples.NOTIFICATION_ID,
    "token_id": examples.TOKEN_ID,
    "select": "tier=free,region in (eu,us)",
    "Idempotency-Key": "release-7",
    "X-Requested-By": "ci",
}

OPERATIONS: Mapping[str, Told] = {
    "show_health": Told("Tell whether the process answers", {_OK: {"it does": plain(examples.HEALTHY)}}),
    "show_readiness": Told("Tell whether work is taken", {_OK: {"it leads": plain(examples.READY)}}),
    "show_metrics": Told("Show the metrics", {_OK: {"one of them": examples.METRICS}}),
    "reload_registry": Told(
        "Read the registry again",
        {_OK: {"two tenants came": plain(examples.RELOADED)}},
        problems=(HTTPStatus.UNPROCESSABLE_ENTITY,),
    ),
    "show_registry": Told("Show the registry's sources", {_OK: {"one source": plain(examples.REGISTRY)}}),
    "list_tenants": Told(
        "List tenants",
        {_OK: {"the first page": page(examples.TENANT, following=paging.encode("tenants", "acme"))}},
    ),
    "show_tenant": Told(
        "Show a tenant",
        {_OK: {"one target": plain(examples.TENANT)}},
        description="A tenant's targets, and what was last seen of them.",
    ),
    "make_plan": Told(
        "Plan, with the SQL",
        {_OK: {"two targets alike": plain(examples.PLAN)}},
        asks={"bring tenants to head": {"track": "app", "to": "head", "select": "tier=free"}},
    ),
    "start_rollout": Told(
        "Start a rollout",
        {
            _CREATED: {"it began": plain(examples.RUNNING)},
            _OK: {"made earlier": plain(examples.RUNNING), "dry run": plain(examples.PREVIEW)},
        },
        asks={
            "bring tenants to head": {"track": "app", "to": "head", "select": "tier=free"},
            "do just what a plan says": {
                "track": "app",
                "to": "head",
                "strategy": "default",
                "plan_digest": examples.DIGEST,
            },
            "show what would be done": {"track": "*", "to": "*", "dry_run": True},
        },
        problems=(HTTPStatus.CONFLICT,),
    ),
    "list_rollouts": Told(
        "List rollouts",
        {_OK: {"the first page": page(examples.LISTED, following=paging.encode("rollouts", ROLLOUT_ID))}},
    ),
    "show_rollout": Told(
        "Show a rollout",
        {_OK: {"paused by a failure": plain(examples.ROLLOUT)}},
        description="A rollout with its waves, counts, and its failures by cause.",
    ),
    "list_migrations": Told(
        "List a rollout's migrations",
        {_OK: {"the last page": page(examples.MIGRATION)}},
    ),
    "pause_rollout": Told("Pause a rollout", _changed()),
    "resume_rollout": Told("Resume a rollout", _changed(), description="Go on with a rollout that is paused."),
    "approve_rollout": Told("Approve a rollout's gate", _changed(), asks={"after wave canary": {"wave": "canary"}}),
    "abort_rollout": Told("Abort a rollout", _changed(), asks={"finish what runs": {"force": False}}),
    "retry_rollout": Told(
        "Retry what failed",
        _changed(),
        asks={"of one cause": {"signature": examples.FAILURE.signature}},
    ),
    "rollback_rollout": Told("Roll a rollout back", _changed()),
    "skip_tenant": Told(
        "Leave a tenant out",
        _changed(),
        asks={"with the reason": {"tenant": "globex", "reason": "they move out on Monday"}},
    ),
    "limit_rollout": Told(
        "Change how many are migrated at once", _changed(), asks={"four at once": {"max_concurrent": 4}}
    ),
    "override_windows": Told(
        "Let a rollout go on outside of windows", _changed(), asks={"with the reason": {"reason": "CVE-2026-1"}}
    ),
    "list_shards": Told("List shards", {_OK: {"one of them": page(examples.SHARD)}}),
    **documented_backfills.OPERATIONS,
    **documented_administration.OPERATIONS,
    **documented_drift.OPERATIONS,
    "rollout_events": Told("Follow a rollout", {_OK: {"its end": examples.EVENTS}}),
}


def _of(error: type[errors.OrchestratorError], detail: str, **members: Any) -> Problem:
    return _told(problems.KINDS[error], detail, **members)


def _told(kind: Kind, detail: str, **members: Any) -> Problem:
    return problem(kind, detail, request_id="3f0c7d1e9a6b4f5f8a0d", **members)


_FROZEN = windows.refused(examples.FREEZE)

PROBLEMS: Mapping[HTTPStatus, Problems] = {
    HTTPStatus.BAD_REQUEST: Problems(
        "The request cannot be read, or not be met.",
        (
            _told(problems.UNREADABLE, "POST /api/v1/rollouts: There was an error parsing the body"),
            _of(errors.RequestError, "what is asked for cannot be done here"),
        ),
    ),
    HTTPStatus.FORBIDDEN: Problems(
        "Whoever asks may not do this.",
        (
            _told(problems.CROSS_SITE, "the request was sent by a page of another site"),
            _told(
                problems.FORBIDDEN,
                "this needs the role approver, and user:ci has operator",
                remedy="ask with a token of the role approver",
                needs="approver",
                has="operator",
            ),
        ),
    ),
    HTTPStatus.UNAUTHORIZED: Problems(
        "It is not known who asks.",
        (
            _told(
                problems.UNAUTHENTICATED,
                "the token has expired",
                remedy="send `Authorization: Bearer …`; the command line takes it from ORCHESTRATOR_TOKEN",
            ),
        ),
    ),
    HTTPStatus.NOT_FOUND: Problems(
        "There is no such thing.",
        (_of(errors.NotFoundError, "there is no tenant 'acm'", remedy="GET /api/v1/tenants lists them"),),
    ),
    HTTPStatus.CONFLICT: Problems(
        "It cannot be done as things are.",
        (
            _of(
                errors.ConflictError,
                f"rollout {ROLLOUT_ID} is active and holds acme/app",
                remedy=f"wait until it has finished, or abort it: `orchestrator rollout abort {ROLLOUT_ID}`",
                rollout=ROLLOUT_ID,
                targets=["acme/app"],
            ),
            _of(errors.StateError, f"rollout {ROLLOUT_ID} has finished (succeeded)", remedy="start another one"),
            _of(errors.FrozenError, _FROZEN.message, remedy=_FROZEN.remedy),
            _of(
                errors.PlanChangedError,
                "what would run is not what was planned",
                remedy="plan again, and look at what changed",
                differences=["revision b2c4: another content"],
            ),
        ),
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Problems(
        "The body is too large.", (_told(problems.TOO_LARGE, "the body may have 1048576 bytes"),)
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Problems(
        "The body is not JSON.",
        (
            _told(
                problems.UNSUPPORTED_TYPE,
                "the body is not said to be JSON",
                remedy="send the header `Content-Type: application/json`",
            ),
        ),
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: Problems(
        "What was sent, or what it concerns, is not valid.",
        (
            problems.invalid([FieldProblem(field="query.cursor", message="not a cursor of this API")]),
            _told(
                problems.KEY_REUSED,
                f"the idempotency key was used for rollout {ROLLOUT_ID}, which asks for something else",
                remedy="use a new key for a new rollout",
                rollout=ROLLOUT_ID,
            ),
            _of(errors.SelectorError, "a value is expected\n  tier=\n       ^", remedy="for example: tier=free"),
            _of(errors.ConfigurationError, "there is no track 'ap'", remedy="did you mean 'app'?"),
            _of(errors.HistoryError, "track 'app': there is no revision 'b2c5'", remedy="look at `orchestrator check`"),
            _of(
                errors.RegistryError,
                "tenants.yaml: 1 mistake",
                mistakes=[MistakeProblem(line=3, column=5, path="tenants.0.id", message="this must not be empty")],
            ),
        ),
    ),
    HTTPStatus.TOO_MANY_REQUESTS: Problems(
        "The client asks too often.",
        (
            _told(
                problems.TOO_OFTEN,
                "a client may ask 100 times a second",
                remedy="ask again after the seconds that the header `Retry-After` says",
                retry_after_seconds=1,
            ),
        ),
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: Problems(
        "A bug.", (_told(problems.UNEXPECTED, "this is a bug; the daemon's log has the details"),)
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: Problems(
        "The daemon, or something that it needs, cannot be reached at the moment.",
        (
            _of(errors.UnavailableError, "the daemon is shutting down", remedy="ask again when it has started anew"),
            _told(problems.NOT_READY, "store: cannot be reached", reasons={"store": "cannot be reached"}),
        ),
    ),
}
