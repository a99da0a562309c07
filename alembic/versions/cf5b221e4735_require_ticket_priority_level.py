"""Require the ticket's priority level

Third of four, a week later. Validating reads the table under a lock that lets reads and writes pass; SET NOT NULL then
finds its proof in the validated constraint and reads nothing.

Revision ID: cf5b221e4735
Revises: 8da48588a25f
Create Date: 2025-04-15 09:02:14+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "cf5b221e4735"
down_revision = "8da48588a25f"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE tickets VALIDATE CONSTRAINT ck_tickets_priority_level")
    op.execute("ALTER TABLE tickets VALIDATE CONSTRAINT ck_tickets_priority_level_set")
    op.alter_column("tickets", "priority_level", existing_type=sa.SmallInteger, nullable=False)
    op.drop_constraint("ck_tickets_priority_level_set", "tickets", type_="check")


def downgrade() -> None:
    op.alter_column("tickets", "priority_level", existing_type=sa.SmallInteger, nullable=True)
    op.drop_constraint("ck_tickets_priority_level", "tickets", type_="check")
    op.create_check_constraint(
        "ck_tickets_priority_level", "tickets", "priority_level BETWEEN 1 AND 4", postgresql_not_valid=True
    )
    op.create_check_constraint(
        "ck_tickets_priority_level_set", "tickets", "priority_level IS NOT NULL", postgresql_not_valid=True
    )
