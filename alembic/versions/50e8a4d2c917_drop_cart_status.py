"""Drop the cart's status in the words of the old shop

Last of three, once the old shop is closed. SET NOT NULL finds its proof in the validated constraint and reads nothing.
Going back writes every row again.

Revision ID: 50e8a4d2c917
Revises: d7c19b3e5f28
Create Date: 2026-03-31 08:47:30+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "50e8a4d2c917"
down_revision = "d7c19b3e5f28"
branch_labels = None
depends_on = None

STATE = postgresql.ENUM("basket", "paid", "refunded", "cancelled", name="cart_state", create_type=False)
STATE_FUNCTION = """
CREATE FUNCTION carts_sync_state() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    statuses CONSTANT text[] := ARRAY['open', 'ordered', 'returned', 'cancelled'];
    states CONSTANT cart_state[] := ARRAY['basket', 'paid', 'refunded', 'cancelled'];
BEGIN
    IF NEW.state IS NULL OR (TG_OP = 'UPDATE' AND NEW.status IS DISTINCT FROM OLD.status) THEN
        NEW.state := states[array_position(statuses, NEW.status)];
    ELSE
        NEW.status := statuses[array_position(states, NEW.state)];
    END IF;
    RETURN NEW;
END
$$
"""
STATE_TRIGGER = """
CREATE TRIGGER carts_sync_state BEFORE INSERT OR UPDATE ON carts
FOR EACH ROW EXECUTE FUNCTION carts_sync_state()
"""


def upgrade() -> None:
    op.requires_backfill("d7c19b3e5f28")
    op.execute("ALTER TABLE carts VALIDATE CONSTRAINT ck_carts_state_set")
    op.alter_column("carts", "state", existing_type=STATE, nullable=False, server_default="basket")
    op.drop_constraint("ck_carts_state_set", "carts", type_="check")
    op.execute("DROP TRIGGER carts_sync_state ON carts")
    op.execute("DROP FUNCTION carts_sync_state()")
    op.drop_column("carts", "status")


def downgrade() -> None:
    op.add_column("carts", sa.Column("status", sa.Text, server_default="open"))
    op.execute(
        """
        UPDATE carts SET status = (ARRAY['open', 'ordered', 'returned', 'cancelled'])[
            array_position(ARRAY['basket', 'paid', 'refunded', 'cancelled']::cart_state[], state)
        ]
        """
    )
    op.alter_column("carts", "status", existing_type=sa.Text, nullable=False)
    op.create_check_constraint("ck_carts_status", "carts", "status IN ('open', 'ordered', 'returned', 'cancelled')")
    op.create_index("uq_carts_open", "carts", ["customer_id"], unique=True, postgresql_where=sa.text("status = 'open'"))
    op.alter_column("carts", "state", existing_type=STATE, nullable=True, server_default=None)
    op.create_check_constraint("ck_carts_state_set", "carts", "state IS NOT NULL", postgresql_not_valid=True)
    op.execute(STATE_FUNCTION)
    op.execute(STATE_TRIGGER)
