"""Which role each operation asks for: the one table of it. A new endpoint is one line here.

An operation is named as its endpoint's function, and as `operationId` in the OpenAPI document. One that is missing
here is refused to everybody who must prove who they are, and a test fails.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.access.roles import Role

LEAST: Mapping[str, Role] = {
    "list_tenants": Role.VIEWER,
    "show_tenant": Role.VIEWER,
    "make_plan": Role.VIEWER,  # reads and compiles, changes nothing: what a pull request from anybody may ask for
    "list_rollouts": Role.VIEWER,
    "show_rollout": Role.VIEWER,
    "list_migrations": Role.VIEWER,
    "rollout_events": Role.VIEWER,
    "show_registry": Role.VIEWER,
    "list_schedules": Role.VIEWER,
    "show_schedule": Role.VIEWER,
    "show_freeze": Role.VIEWER,
    "list_shards": Role.VIEWER,
    "list_drift": Role.VIEWER,
    "list_notifications": Role.VIEWER,
    "list_backfills": Role.VIEWER,
    "sum_up_backfills": Role.VIEWER,
    "start_rollout": Role.OPERATOR,
    "pause_rollout": Role.OPERATOR,
    "resume_rollout": Role.OPERATOR,
    "abort_rollout": Role.OPERATOR,
    "retry_rollout": Role.OPERATOR,
    "rollback_rollout": Role.OPERATOR,
    "skip_tenant": Role.OPERATOR,
    "limit_rollout": Role.OPERATOR,
    "reload_registry": Role.OPERATOR,
    "look_for_drift": Role.OPERATOR,
    "enable_schedule": Role.OPERATOR,
    "disable_schedule": Role.OPERATOR,
    "run_schedule": Role.OPERATOR,
    "freeze_fleet": Role.OPERATOR,
    "retry_notification": Role.OPERATOR,
    "pause_backfills": Role.OPERATOR,
    "resume_backfills": Role.OPERATOR,
    "abort_backfills": Role.OPERATOR,
    "adjust_backfills": Role.OPERATOR,
    "lift_freeze": Role.APPROVER,  # somebody has seen a reason for it
    "override_windows": Role.APPROVER,  # what tenants were promised is set aside
    "approve_rollout": Role.APPROVER,
    "list_audit": Role.ADMIN,
    "list_tokens": Role.ADMIN,
    "create_token": Role.ADMIN,
    "revoke_token": Role.ADMIN,
}

# For everybody, always. `/metrics` may be made to ask for a viewer's token.
PUBLIC_PATHS: Mapping[str, str] = {"/healthz": "show_health", "/readyz": "show_readiness", "/metrics": "show_metrics"}
PUBLIC = frozenset(PUBLIC_PATHS.values())

# Also while anybody may do anything else: whoever happens to reach an open door must not be able to lock it.
PROVED = frozenset({"create_token", "revoke_token"})

# What changes something, but nothing in the store that would carry the record: it is recorded before it is done.
RECORDED_BEFORE = frozenset({"reload_registry"})


def least(operation: str, *, metrics_need_token: bool = False) -> Role | None:
    """The role that an operation asks for; None where it asks for none. Raises KeyError for one that is not known."""
    if operation == "show_metrics" and metrics_need_token:
        return Role.VIEWER
    return None if operation in PUBLIC else LEAST[operation]
