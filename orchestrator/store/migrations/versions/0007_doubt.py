"""What an attempt that was cut short may have left, and the rows that were counted before a change.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("migrations", sa.Column("doubt", sa.Text()))
    op.add_column("migrations", sa.Column("counted", sa.JSON()))
    doubted = sa.text("doubt IS NOT NULL")
    op.create_index(
        "ix_migrations_tenant_track",
        "migrations",
        ["tenant", "track"],
        postgresql_where=doubted,
        sqlite_where=doubted,
    )


def downgrade() -> None:
    op.drop_index("ix_migrations_tenant_track", "migrations")
    op.drop_column("migrations", "counted")
    op.drop_column("migrations", "doubt")
