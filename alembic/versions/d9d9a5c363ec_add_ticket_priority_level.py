"""Add the ticket's priority as a number

First of four. Queues are sorted by priority, and as text "high" comes before "low". Releases that write the text and
releases that write the number run side by side for a while: a trigger keeps the two alike, and the number wins in an
INSERT that gives both. The constraints are NOT VALID, so the table is not read under the lock.

Revision ID: d9d9a5c363ec
Revises: 38b94514c01c
Create Date: 2025-04-08 11:20:02+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "d9d9a5c363ec"
down_revision = "38b94514c01c"
branch_labels = None
depends_on = None

SYNC_FUNCTION = """
CREATE FUNCTION tickets_sync_priority() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    names CONSTANT text[] := ARRAY['low', 'normal', 'high', 'urgent'];
BEGIN
    IF NEW.priority_level IS NULL OR (TG_OP = 'UPDATE' AND NEW.priority IS DISTINCT FROM OLD.priority) THEN
        NEW.priority_level := array_position(names, NEW.priority);
    ELSE
        NEW.priority := names[NEW.priority_level];
    END IF;
    RETURN NEW;
END
$$
"""
SYNC_TRIGGER = """
CREATE TRIGGER tickets_sync_priority BEFORE INSERT OR UPDATE ON tickets
FOR EACH ROW EXECUTE FUNCTION tickets_sync_priority()
"""


def upgrade() -> None:
    op.add_column("tickets", sa.Column("priority_level", sa.SmallInteger))
    op.execute(SYNC_FUNCTION)
    op.execute(SYNC_TRIGGER)
    op.create_check_constraint(
        "ck_tickets_priority_level", "tickets", "priority_level BETWEEN 1 AND 4", postgresql_not_valid=True
    )
    op.create_check_constraint(
        "ck_tickets_priority_level_set", "tickets", "priority_level IS NOT NULL", postgresql_not_valid=True
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER tickets_sync_priority ON tickets")
    op.execute("DROP FUNCTION tickets_sync_priority()")
    op.drop_column("tickets", "priority_level")
