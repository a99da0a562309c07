"""Fill the time until a ticket was solved

Second of three. The largest tenants have millions of tickets by now: one statement would hold the locks of all of them
for minutes, keep vacuum from its work meanwhile, and lose everything when it is ended. So it goes batch by batch. New
tickets are the trigger's business, so the rows that were there when it began are enough.

Revision ID: c41d7a58e0b3
Revises: 6b0f3d9e2a71
Create Date: 2026-02-17 10:40:03+00:00
"""

from alembic import op

revision = "c41d7a58e0b3"
down_revision = "6b0f3d9e2a71"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.backfill(
        "tickets",
        set_={
            "solved_at": "updated_at",
            "resolution_time_seconds": "greatest(0, extract(epoch FROM updated_at - created_at))",
        },
        where="status IN ('solved', 'closed') AND resolution_time_seconds IS NULL",
        batch_size=2000,
    )
    op.verify(
        """
        SELECT NOT EXISTS (
            SELECT 1 FROM tickets WHERE status IN ('solved', 'closed') AND resolution_time_seconds IS NULL
        )
        """,
        "solved tickets are left without the time that they took",
    )


def downgrade() -> None:
    # There is nothing to take back: the columns go with the revision before. An empty downgrade counts as one that
    # cannot be taken back.
    op.verify("SELECT true", "the values stay")
