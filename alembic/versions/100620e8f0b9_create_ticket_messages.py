"""Create ticket messages

A message is a reply that the requester sees, or a note between agents. The identifier of the mail it came by is unique,
because mail servers deliver twice.

Revision ID: 100620e8f0b9
Revises: efde21194234
Create Date: 2025-01-21 14:47:19+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "100620e8f0b9"
down_revision = "efde21194234"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ticket_messages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("ticket_id", sa.BigInteger, nullable=False),
        sa.Column("author_id", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("internal", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("mail_message_id", sa.Text),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_ticket_messages"),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name="fk_ticket_messages_ticket", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_ticket_messages_author"),
        sa.UniqueConstraint("mail_message_id", name="uq_ticket_messages_mail"),
    )
    op.create_index("ix_ticket_messages_ticket", "ticket_messages", ["ticket_id", "created_at"])


def downgrade() -> None:
    op.drop_table("ticket_messages")
