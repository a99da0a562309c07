"""Index the queue of an agent

An agent's list is the slowest page of the larger tenants. The index is built concurrently, since tickets arrive all the
time. A build that was interrupted leaves an invalid index under the name, which IF NOT EXISTS would take for the real
one: so whatever is there is dropped first.

Revision ID: ce55f0c26884
Revises: 2e7f6d6587d8
Create Date: 2025-06-17 07:55:26+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "ce55f0c26884"
down_revision = "2e7f6d6587d8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_tickets_queue", "tickets", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_tickets_queue",
            "tickets",
            ["assignee_id", "status", sa.text("updated_at DESC")],
            if_not_exists=True,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_tickets_queue", "tickets", if_exists=True, postgresql_concurrently=True)
