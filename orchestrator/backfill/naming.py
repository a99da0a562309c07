"""What the table is called in which a database keeps how far its backfills are. Pure."""

from __future__ import annotations

import hashlib

# PostgreSQL cuts longer names off, and MySQL refuses them.
_LONGEST_NAME = 63
SUFFIX = "_backfills"


def checkpoints_of(version_table: str) -> str:
    """The checkpoints' table for a version table, which lies beside it.

    >>> checkpoints_of("alembic_version")
    'alembic_version_backfills'
    """
    if len(version_table.encode()) + len(SUFFIX) <= _LONGEST_NAME:
        return version_table + SUFFIX
    short = hashlib.sha256(version_table.encode()).hexdigest()[:12]
    kept = version_table.encode()[: _LONGEST_NAME - len(SUFFIX) - len(short) - 1].decode(errors="ignore")
    return f"{kept}_{short}{SUFFIX}"
