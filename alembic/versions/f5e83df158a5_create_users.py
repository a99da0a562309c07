"""Create users

Agents, administrators and the customers who write to them are one table: an agent of one brand is often a customer of
another, and messages have a single kind of author.

Revision ID: f5e83df158a5
Revises:
Create Date: 2025-01-14 09:12:40+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "f5e83df158a5"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False, server_default="customer"),
        sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.CheckConstraint("role IN ('customer', 'agent', 'admin')", name="ck_users_role"),
    )
    # Mail clients change the case of addresses; two accounts for one person made two ticket histories.
    op.create_index("uq_users_email", "users", [sa.text("lower(email)")], unique=True)


def downgrade() -> None:
    op.drop_table("users")
