"""Index the tickets that nobody has taken

Most tickets have an assignee; the few that wait for one are counted every few seconds by the dashboard. A partial index
holds only these.

Revision ID: 88870840d2bd
Revises: ce55f0c26884
Create Date: 2025-06-17 08:21:09+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "88870840d2bd"
down_revision = "ce55f0c26884"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_tickets_unassigned", "tickets", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_tickets_unassigned",
            "tickets",
            [sa.text("priority_level DESC"), "created_at"],
            if_not_exists=True,
            postgresql_concurrently=True,
            postgresql_where=sa.text("assignee_id IS NULL"),
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_tickets_unassigned", "tickets", if_exists=True, postgresql_concurrently=True)
