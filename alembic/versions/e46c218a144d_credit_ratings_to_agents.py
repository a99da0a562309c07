"""Credit ratings to the agent who solved the ticket

Tickets change hands after they are rated, and the report then praised the wrong agent. Ratings given until now get the
present assignee, which is the best that is known.

Revision ID: e46c218a144d
Revises: bf4c1f9d9676
Create Date: 2026-01-20 12:06:31+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "e46c218a144d"
down_revision = "bf4c1f9d9676"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("satisfaction_ratings", sa.Column("agent_id", sa.BigInteger))
    op.execute(
        """
        UPDATE satisfaction_ratings AS rating SET agent_id = ticket.assignee_id
        FROM tickets AS ticket WHERE ticket.id = rating.ticket_id
        """
    )
    op.create_foreign_key(
        "fk_satisfaction_ratings_agent", "satisfaction_ratings", "users", ["agent_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index("ix_satisfaction_ratings_agent", "satisfaction_ratings", ["agent_id", "answered_at"])


def downgrade() -> None:
    op.drop_column("satisfaction_ratings", "agent_id")
