"""Schedules and their runs, a freeze of the fleet, and windows that a person has overridden.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean()),
        sa.Column("by", sa.Text()),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="pk_schedules"),
    )
    op.create_table(
        "schedule_runs",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rollout", sa.String(64)),
        sa.Column("reason", sa.Text()),
        sa.Column("by", sa.Text()),
        sa.PrimaryKeyConstraint("schedule", "planned_at", name="pk_schedule_runs"),
    )
    freeze = op.create_table(
        "freeze",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("by", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("since", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_freeze"),
    )
    op.execute(sa.insert(freeze).values(id=1))
    op.add_column("rollouts", sa.Column("schedule", sa.Text()))
    op.add_column("rollouts", sa.Column("planned_at", sa.DateTime(timezone=True)))
    op.add_column("rollouts", sa.Column("windows_overridden", sa.JSON()))


def downgrade() -> None:
    op.drop_column("rollouts", "windows_overridden")
    op.drop_column("rollouts", "planned_at")
    op.drop_column("rollouts", "schedule")
    op.drop_table("freeze")
    op.drop_table("schedule_runs")
    op.drop_table("schedules")
