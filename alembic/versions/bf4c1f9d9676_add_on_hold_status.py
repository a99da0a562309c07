"""Add the status "on hold"

"Pending" waits for the customer, "on hold" for somebody else: the two have different targets for the time to answer.
PostgreSQL cannot take a value out of an enum, so going back makes the type anew, writes the table again, and turns
"on hold" into "pending".

Revision ID: bf4c1f9d9676
Revises: 75fbfdad8fdd
Create Date: 2025-11-11 09:38:44+00:00
"""

from alembic import op

revision = "bf4c1f9d9676"
down_revision = "75fbfdad8fdd"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TYPE ticket_status ADD VALUE IF NOT EXISTS 'on_hold' AFTER 'pending'")


def downgrade() -> None:
    op.execute("ALTER TYPE ticket_status RENAME TO ticket_status_with_on_hold")
    op.execute("CREATE TYPE ticket_status AS ENUM ('new', 'open', 'pending', 'solved', 'closed')")
    op.execute("ALTER TABLE tickets ALTER COLUMN status DROP DEFAULT")
    op.execute(
        """
        ALTER TABLE tickets ALTER COLUMN status TYPE ticket_status
        USING (CASE status::text WHEN 'on_hold' THEN 'pending' ELSE status::text END)::ticket_status
        """
    )
    op.execute("ALTER TABLE tickets ALTER COLUMN status SET DEFAULT 'new'")
    op.execute("DROP TYPE ticket_status_with_on_hold")
