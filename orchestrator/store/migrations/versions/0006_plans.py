"""Plans, and the rollouts that are bound to one.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("plan_digest", sa.Text()))
    op.add_column("rollouts", sa.Column("irreversible", sa.JSON()))
    op.add_column("migrations", sa.Column("planned", sa.JSON()))
    op.create_table(
        "plans",
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_plans"),
    )
    op.create_index("ix_plans_made_at", "plans", ["made_at"])


def downgrade() -> None:
    op.drop_table("plans")
    op.drop_column("migrations", "planned")
    op.drop_column("rollouts", "irreversible")
    op.drop_column("rollouts", "plan_digest")
