"""Require the given name, and drop the whole one

Last of three, once no release writes the whole name any more. What such a release has written since the backfill is
looked for first. SET NOT NULL reads the table under its lock: milliseconds, as users are far fewer than tickets. Going
back leaves the whole name empty, for the revision before to fill.

Revision ID: e93b47ac1d05
Revises: 84c2e05fa6d1
Create Date: 2026-05-19 09:30:12+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "e93b47ac1d05"
down_revision = "84c2e05fa6d1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.requires_backfill("84c2e05fa6d1")
    op.verify(
        "SELECT NOT EXISTS (SELECT 1 FROM users WHERE given_name IS NULL)",
        "an older release still writes users without a given name: stop it, downgrade to 1f7d6b90ce43, upgrade again",
    )
    op.alter_column("users", "given_name", existing_type=sa.Text, nullable=False)
    op.drop_column("users", "name")


def downgrade() -> None:
    op.add_column("users", sa.Column("name", sa.Text))
    op.alter_column("users", "given_name", existing_type=sa.Text, nullable=True)
