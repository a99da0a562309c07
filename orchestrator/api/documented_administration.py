"""What the OpenAPI document says of schedules, the freeze, notifications, tokens and the audit."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from orchestrator.api import examples, paging
from orchestrator.api.examples import page, plain
from orchestrator.api.told import Told

_OK, _CREATED = HTTPStatus.OK, HTTPStatus.CREATED

OPERATIONS: Mapping[str, Told] = {
    "list_schedules": Told("List schedules", {_OK: {"one of them": page(examples.SCHEDULE)}}),
    "show_schedule": Told(
        "Show a schedule",
        {_OK: {"every night": plain(examples.SCHEDULE)}},
        description="A schedule with its next runs, and what became of the latest ones.",
    ),
    "enable_schedule": Told("Enable a schedule", {_OK: {"as it is now": plain(examples.SCHEDULE)}}),
    "disable_schedule": Told("Disable a schedule", {_OK: {"as it is now": plain(examples.SCHEDULE)}}),
    "run_schedule": Told(
        "Run a schedule now", {_OK: {"it began": plain(examples.RUN)}}, problems=(HTTPStatus.CONFLICT,)
    ),
    "show_freeze": Told(
        "Show the freeze",
        {_OK: {"frozen": plain(examples.FROZEN)}},
        description="Whether the fleet is frozen, by whom, since when and why.",
    ),
    "freeze_fleet": Told(
        "Freeze the fleet",
        {_OK: {"frozen": plain(examples.FROZEN)}},
        asks={"with the reason": {"reason": "incident 7"}},
    ),
    "lift_freeze": Told("Lift the freeze", {_OK: {"not frozen": plain(examples.NOT_FROZEN)}}),
    "list_notifications": Told(
        "List notifications",
        {_OK: {"the first page": page(examples.NOTIFICATION, following=paging.encode("notifications", 12))}},
    ),
    "retry_notification": Told(
        "Send a notification again",
        {_OK: {"as it is now": plain(examples.NOTIFICATION)}},
        problems=(HTTPStatus.CONFLICT,),
    ),
    "list_tokens": Told("List tokens", {_OK: {"the last page": page(examples.TOKEN)}}),
    "create_token": Told(
        "Make a token",
        {_CREATED: {"with its secret": plain(examples.NEW_TOKEN)}},
        asks={"for a pipeline": {"name": "ci", "role": "operator", "expires_seconds": 7776000}},
    ),
    "revoke_token": Told(
        "Revoke a token", {_OK: {"as it is now": plain(examples.TOKEN)}}, problems=(HTTPStatus.CONFLICT,)
    ),
    "list_audit": Told(
        "Read the audit",
        {_OK: {"the last page": {**page(examples.AUDIT_ENTRY), "head": f"1:{examples.AUDIT_ENTRY.hash}"}}},
        description="Who did what, oldest first: each entry's hash covers the one before.",
    ),
}
