"""Create tickets

The status is an enum, since its order is the order of the agent's list. The priority is text for now, as the importer
of the old help desk delivers it.

Revision ID: efde21194234
Revises: f5e83df158a5
Create Date: 2025-01-14 10:03:05+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "efde21194234"
down_revision = "f5e83df158a5"
branch_labels = None
depends_on = None


STATUS = postgresql.ENUM("new", "open", "pending", "solved", "closed", name="ticket_status", create_type=False)


def upgrade() -> None:
    op.execute("CREATE TYPE ticket_status AS ENUM ('new', 'open', 'pending', 'solved', 'closed')")
    op.create_table(
        "tickets",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("requester_id", sa.BigInteger, nullable=False),
        sa.Column("assignee_id", sa.BigInteger),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("status", STATUS, nullable=False, server_default="new"),
        sa.Column("priority", sa.Text, nullable=False, server_default="normal"),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_tickets"),
        sa.ForeignKeyConstraint(["requester_id"], ["users.id"], name="fk_tickets_requester"),
        sa.ForeignKeyConstraint(["assignee_id"], ["users.id"], name="fk_tickets_assignee", ondelete="SET NULL"),
        sa.CheckConstraint("priority IN ('low', 'normal', 'high', 'urgent')", name="ck_tickets_priority"),
        sa.CheckConstraint("length(subject) BETWEEN 1 AND 500", name="ck_tickets_subject_length"),
    )
    op.create_index("ix_tickets_requester", "tickets", ["requester_id", "created_at"])


def downgrade() -> None:
    op.drop_table("tickets")
    op.execute("DROP TYPE ticket_status")
