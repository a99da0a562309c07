"""Add the parts of a user's name

First of three. Letters begin with "Dear Ms Okonkwo" rather than with whatever somebody typed. No trigger can split a
name: this release writes all three columns, and those before it only the whole name, which may be missing from now on.

Revision ID: 1f7d6b90ce43
Revises: 50e8a4d2c917
Create Date: 2026-05-05 11:02:44+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "1f7d6b90ce43"
down_revision = "50e8a4d2c917"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("given_name", sa.Text))
    op.add_column("users", sa.Column("family_name", sa.Text))
    op.alter_column("users", "name", existing_type=sa.Text, nullable=True)


def downgrade() -> None:
    op.alter_column("users", "name", existing_type=sa.Text, nullable=False)
    op.drop_column("users", "family_name")
    op.drop_column("users", "given_name")
