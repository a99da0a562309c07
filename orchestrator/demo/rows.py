"""Tenants of the demo that have been customers for a while: their databases have rows, which backfills then change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
from alembic import command
from alembic.config import Config

from orchestrator.databases.embedded import Server, create_databases, execute

# The last revision before the backfills.
BEFORE = "e46c218a144d"
TEMPLATE = "demo_rows"
USERS, TICKETS, CARTS = 1_000, 15_000, 1_000
_FILL = (
    f"""
    INSERT INTO users (email, name)
    SELECT 'user' || n || '@example.org',
        (ARRAY['Ada', 'Chinua', 'Ludwig', 'Ngozi', 'Gabriela'])[1 + n % 5] || ' '
        || (ARRAY['Lovelace', 'van Beethoven', 'Okonkwo', 'de la Cruz'])[1 + n % 4]
    FROM generate_series(1, {USERS}) AS n
    """,
    f"""
    INSERT INTO tickets (requester_id, subject, status, priority_level, created_at, updated_at)
    SELECT 1 + n % {USERS}, 'Order ' || n || ' has not arrived',
        (ARRAY['solved', 'closed', 'open'])[1 + n % 3]::ticket_status, 1 + n % 4,
        now() - interval '90 days' + n * interval '1 minute', now() - interval '89 days' + n * interval '1 minute'
    FROM generate_series(1, {TICKETS}) AS n
    """,
    f"""
    INSERT INTO carts (customer_id, shop_ref, status, currency, total_cents)
    SELECT n, 'order-' || n, (ARRAY['open', 'ordered', 'returned', 'cancelled'])[1 + n % 4], 'EUR', n * 100
    FROM generate_series(1, {CARTS}) AS n
    """,
    "ANALYZE",
)


async def create(server: Server, names: Sequence[str], environment: Path) -> None:
    """Create the databases as copies of one, at the revision before the backfills. Not for two servers at once, as this
    is plain Alembic."""
    if not names:
        return
    await create_databases(server, [TEMPLATE])
    await anyio.to_thread.run_sync(_upgrade, server.url(TEMPLATE), environment)
    await execute(server, TEMPLATE, *_FILL)
    await create_databases(server, names, TEMPLATE)
    await execute(server, "postgres", f"DROP DATABASE {TEMPLATE}")


def _upgrade(url: str, environment: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(environment).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, BEFORE)
