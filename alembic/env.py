"""Connect Alembic to one tenant's database.

The URL is looked for in `sqlalchemy.url`, then in `-x url=...`, then in the variable `DATABASE_URL`. One that names no
driver gets asyncpg.
"""

import asyncio
import os
from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.ext.asyncio import async_engine_from_config
from sqlalchemy.pool import NullPool

config = context.config

if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)


def database_url() -> URL:
    given = config.get_main_option("sqlalchemy.url")
    given = given or context.get_x_argument(as_dictionary=True).get("url")
    given = given or os.environ.get("DATABASE_URL")
    if not given:
        raise CommandError("which database? Give sqlalchemy.url, -x url=... or DATABASE_URL")
    url = make_url(given)
    return url.set(drivername="postgresql+asyncpg") if url.drivername in ("postgres", "postgresql") else url


def migrate(connection: Connection | None = None, **options: Any) -> None:
    """Run the revisions. Each has a transaction of its own, since some leave theirs to build an index concurrently."""
    context.configure(connection=connection, transaction_per_migration=True, **options)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online() -> None:
    section = config.get_section(config.config_ini_section, {})
    section["sqlalchemy.url"] = database_url().render_as_string(hide_password=False)
    engine = async_engine_from_config(section, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    migrate(url=database_url(), literal_binds=True, dialect_opts={"paramstyle": "named"})
else:
    asyncio.run(migrate_online())
