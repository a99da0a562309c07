"""Add a search vector to tickets

A generated column cannot fall behind its source as the former nightly job did. Adding it rewrites the table under an
exclusive lock: about a second per hundred thousand tickets, so not in office hours.

Revision ID: 75fbfdad8fdd
Revises: 51a168eaf458
Create Date: 2025-09-23 15:30:12+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "75fbfdad8fdd"
down_revision = "51a168eaf458"
branch_labels = None
depends_on = None


def upgrade() -> None:
    vector = sa.Computed("to_tsvector('simple'::regconfig, subject)", persisted=True)
    op.add_column("tickets", sa.Column("search", postgresql.TSVECTOR, vector))
    op.create_index("ix_tickets_search", "tickets", ["search"], postgresql_using="gin")


def downgrade() -> None:
    op.drop_column("tickets", "search")
