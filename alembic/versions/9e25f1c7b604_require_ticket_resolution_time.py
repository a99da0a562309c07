"""Require the time until a ticket was solved

Last of three, a week later. Validating reads the table under a lock that lets reads and writes pass. The trigger stays,
since a ticket is solved by several programs.

Revision ID: 9e25f1c7b604
Revises: c41d7a58e0b3
Create Date: 2026-02-24 09:05:58+00:00
"""

from alembic import op

revision = "9e25f1c7b604"
down_revision = "c41d7a58e0b3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.requires_backfill("c41d7a58e0b3")
    op.execute("ALTER TABLE tickets VALIDATE CONSTRAINT ck_tickets_resolution_time")


def downgrade() -> None:
    op.drop_constraint("ck_tickets_resolution_time", "tickets", type_="check")
    op.create_check_constraint(
        "ck_tickets_resolution_time",
        "tickets",
        "(status IN ('solved', 'closed')) = (resolution_time_seconds IS NOT NULL)",
        postgresql_not_valid=True,
    )
