"""Create satisfaction ratings

One rating per ticket, from the link in the closing mail. Asked for and not answered is a row without a score: the
response rate is reported, too.

Revision ID: 2a42e3ab77ef
Revises: 100620e8f0b9
Create Date: 2025-02-03 08:30:51+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "2a42e3ab77ef"
down_revision = "100620e8f0b9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "satisfaction_ratings",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("ticket_id", sa.BigInteger, nullable=False),
        sa.Column("score", sa.SmallInteger),
        sa.Column("comment", sa.Text),
        sa.Column("asked_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("answered_at", sa.TIMESTAMP(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_satisfaction_ratings"),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["tickets.id"], name="fk_satisfaction_ratings_ticket", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("ticket_id", name="uq_satisfaction_ratings_ticket"),
        sa.CheckConstraint("score BETWEEN 1 AND 5", name="ck_satisfaction_ratings_score"),
        sa.CheckConstraint("(score IS NULL) = (answered_at IS NULL)", name="ck_satisfaction_ratings_answered"),
    )


def downgrade() -> None:
    op.drop_table("satisfaction_ratings")
