"""What people type: the examples at the end of each command's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[str]] = {
    "serve": (
        "orchestrator serve --config tenants.yaml",
        "orchestrator serve --store-url postgresql://orchestrator@db/control --log-format json",
    ),
    "check": ("orchestrator check", "orchestrator check --connect --json"),
    "tenants": (
        "orchestrator tenants --state behind",
        "orchestrator tenants --select 'tier=free,region in (eu,us)' --json",
        "orchestrator tenants --server http://127.0.0.1:8080",
    ),
    "plan": (
        "orchestrator plan",
        "orchestrator plan --to +1 --select canary=true",
        "orchestrator plan --markdown > comment.md",
        "orchestrator plan --fail-on error",
    ),
    "sql": ("orchestrator sql > review.sql", "orchestrator sql --to 1a2b3c4d5e6f --select tenant=acme"),
    "migrate": (
        "orchestrator migrate --dry-run",
        "orchestrator migrate --select tier=free --strategy canary",
        "orchestrator migrate --to 1a2b3c4d5e6f --direction downgrade --select tenant=acme",
        "orchestrator migrate --log-format json",
    ),
    "alembic": (
        "orchestrator alembic --tenant acme -- current --verbose",
        'orchestrator alembic --tenant acme -- revision --autogenerate -m "add invoices"',
        "orchestrator alembic --track app --tenant acme -- downgrade -1",
        "orchestrator alembic --tenant acme --override CVE-2026-1 -- upgrade head",
    ),
    "drift": (
        "orchestrator drift --diff",
        "orchestrator drift acme --track app --reference globex",
        "orchestrator drift --select tier=free --json",
    ),
    "schema": ("orchestrator schema > tenants.schema.json",),
    "demo": ("orchestrator demo --tenants 50",),
    "rollout start": (
        "orchestrator rollout start --track app --strategy canary",
        "orchestrator rollout start --track app --wait --idempotency-key release-42",
        "orchestrator rollout start --track app --to +1 --select 'tenant=acme*' --dry-run",
    ),
    "rollout list": ("orchestrator rollout list --state running --state paused", "orchestrator rollout list --json"),
    "rollout show": (
        "orchestrator rollout show 20260102-030405-abcd",
        "orchestrator rollout show 20260102-030405-abcd --state failed --json",
    ),
    "rollout watch": (
        "orchestrator rollout watch 20260102-030405-abcd",
        "orchestrator rollout watch 20260102-030405-abcd --server https://migrations.internal",
    ),
    "rollout approve": (
        "orchestrator rollout approve 20260102-030405-abcd",
        "orchestrator rollout approve 20260102-030405-abcd --wave canary",
    ),
    "rollout abort": (
        "orchestrator rollout abort 20260102-030405-abcd",
        "orchestrator rollout abort 20260102-030405-abcd --force",
    ),
    "rollout retry": (
        "orchestrator rollout retry 20260102-030405-abcd",
        "orchestrator rollout retry 20260102-030405-abcd --signature 'failed 23505 in 1a2b'",
    ),
    "rollout skip": ("orchestrator rollout skip 20260102-030405-abcd acme --reason 'is being moved'",),
    "rollout limit": ("orchestrator rollout limit 20260102-030405-abcd 4",),
    "rollout pause": ("orchestrator rollout pause 20260102-030405-abcd",),
    "rollout resume": ("orchestrator rollout resume 20260102-030405-abcd",),
    "rollout rollback": ("orchestrator rollout rollback 20260102-030405-abcd",),
    "rollout override": ("orchestrator rollout override 20260102-030405-abcd --reason CVE-2026-1",),
    "backfill list": (
        "orchestrator backfill list --state running --state held",
        "orchestrator backfill list --rollout 20260102-030405-abcd --shard pg-eu-1 --json",
    ),
    "backfill show": ("orchestrator backfill show acme",),
    "backfill summary": (
        "orchestrator backfill summary",
        "orchestrator backfill summary --rollout 20260102-030405-abcd --json",
    ),
    "backfill watch": (
        "orchestrator backfill watch",
        "orchestrator backfill watch --rollout 20260102-030405-abcd",
    ),
    "backfill pause": (
        "orchestrator backfill pause --shard pg-eu-1 --reason 'month-end closing'",
        "orchestrator backfill pause --all --reason 'incident 7'",
    ),
    "backfill resume": ("orchestrator backfill resume --shard pg-eu-1 --reason 'closed'",),
    "backfill abort": ("orchestrator backfill abort --tenant acme --reason 'the new column is wrong'",),
    "backfill set": (
        "orchestrator backfill set --shard pg-eu-1 --rows-per-second 2000 --duty 0.5 --reason 'office hours'",
        "orchestrator backfill set --tenant acme --batch-size 500 --reason 'a large batch hurts'",
        "orchestrator backfill set --shard pg-eu-1 --reset --reason 'the evening has come'",
    ),
    "schedule list": ("orchestrator schedule list --next 5", "orchestrator schedule list --json"),
    "schedule show": ("orchestrator schedule show nightly",),
    "schedule enable": ("orchestrator schedule enable nightly",),
    "schedule disable": ("orchestrator schedule disable nightly",),
    "schedule run": ("orchestrator schedule run nightly",),
    "freeze on": ("orchestrator freeze on --reason 'incident 7'",),
    "freeze off": ("orchestrator freeze off",),
    "freeze show": ("orchestrator freeze show --json",),
    "token create": (
        "orchestrator token create --role operator --name ci --expires 90d",
        "orchestrator token create --role viewer --name grafana --server https://migrations.internal",
    ),
    "token list": ("orchestrator token list", "orchestrator token list --json"),
    "token revoke": ("orchestrator token revoke b7qk2mzx4v3n5t6w",),
    "audit verify": ("orchestrator audit verify",),
    "audit export": ("orchestrator audit export > audit.jsonl",),
    "notifications list": (
        "orchestrator notifications list --state dead",
        "orchestrator notifications list --channel ops --json",
    ),
    "notifications retry": (
        "orchestrator notifications retry ntf_5f0c9a3b7d21e4468a01c2d3",
        "orchestrator notifications retry --dead --channel ops",
    ),
}


def of(command: str) -> str:
    """The end of a command's help; a paragraph for each example, since help is reflowed."""
    return "\n\n".join(("Examples:", *EXAMPLES[command]))
