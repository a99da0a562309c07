"""Add the time until a ticket was solved

First of three. Nobody has written down when a ticket was solved; from now on a trigger does, whatever release writes
the ticket. A ticket that is solved already gets the time of its last change, also where somebody changes it before the
backfill has come to it. The constraint is NOT VALID, so it holds for what is written from now on, and the table is not
read under the lock.

Revision ID: 6b0f3d9e2a71
Revises: e46c218a144d
Create Date: 2026-02-17 10:12:26+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "6b0f3d9e2a71"
down_revision = "e46c218a144d"
branch_labels = None
depends_on = None

RESOLVE_FUNCTION = """
CREATE FUNCTION tickets_resolve() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status NOT IN ('solved', 'closed') THEN
        NEW.solved_at := NULL;
        NEW.resolution_time_seconds := NULL;
    ELSIF NEW.resolution_time_seconds IS NULL THEN
        IF TG_OP = 'UPDATE' AND OLD.status IN ('solved', 'closed') THEN
            NEW.solved_at := OLD.updated_at;
        ELSE
            NEW.solved_at := now();
        END IF;
        NEW.resolution_time_seconds := greatest(0, extract(epoch FROM NEW.solved_at - NEW.created_at));
    END IF;
    RETURN NEW;
END
$$
"""
RESOLVE_TRIGGER = """
CREATE TRIGGER tickets_resolve BEFORE INSERT OR UPDATE ON tickets
FOR EACH ROW EXECUTE FUNCTION tickets_resolve()
"""


def upgrade() -> None:
    op.add_column("tickets", sa.Column("solved_at", sa.TIMESTAMP(timezone=True)))
    op.add_column("tickets", sa.Column("resolution_time_seconds", sa.Integer))
    op.execute(RESOLVE_FUNCTION)
    op.execute(RESOLVE_TRIGGER)
    op.create_check_constraint(
        "ck_tickets_resolution_time",
        "tickets",
        "(status IN ('solved', 'closed')) = (resolution_time_seconds IS NOT NULL)",
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER tickets_resolve ON tickets")
    op.execute("DROP FUNCTION tickets_resolve()")
    op.drop_column("tickets", "resolution_time_seconds")
    op.drop_column("tickets", "solved_at")
