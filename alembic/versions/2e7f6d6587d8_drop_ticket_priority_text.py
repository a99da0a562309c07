"""Drop the ticket's priority as text

Last of four, once no release writes the text any more. Only now can the number have a default: before, it would have
won over the text that an older release inserts. Going back writes every row again.

Revision ID: 2e7f6d6587d8
Revises: cf5b221e4735
Create Date: 2025-05-06 13:15:48+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "2e7f6d6587d8"
down_revision = "cf5b221e4735"
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
    op.execute("DROP TRIGGER tickets_sync_priority ON tickets")
    op.execute("DROP FUNCTION tickets_sync_priority()")
    op.drop_column("tickets", "priority")
    op.alter_column("tickets", "priority_level", existing_type=sa.SmallInteger, server_default="2")


def downgrade() -> None:
    op.alter_column("tickets", "priority_level", existing_type=sa.SmallInteger, server_default=None)
    op.add_column("tickets", sa.Column("priority", sa.Text, server_default="normal"))
    op.execute("UPDATE tickets SET priority = (ARRAY['low', 'normal', 'high', 'urgent'])[priority_level]")
    op.alter_column("tickets", "priority", existing_type=sa.Text, nullable=False)
    op.create_check_constraint("ck_tickets_priority", "tickets", "priority IN ('low', 'normal', 'high', 'urgent')")
    op.execute(SYNC_FUNCTION)
    op.execute(SYNC_TRIGGER)
