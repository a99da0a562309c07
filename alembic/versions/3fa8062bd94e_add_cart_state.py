"""Add the cart's state in the words of the new shop

First of three. The new shop says "refunded" where the old one said "returned", and "basket" for a cart that is open.
The programs that copy from the one and from the other run side by side for a while: a trigger keeps the two columns
alike, as it did for priorities. The unique index is built under a lock that keeps writers out, as long as it takes to
read the carts: a second for a million.

Revision ID: 3fa8062bd94e
Revises: 9e25f1c7b604
Create Date: 2026-03-10 14:20:45+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "3fa8062bd94e"
down_revision = "9e25f1c7b604"
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
    op.execute("CREATE TYPE cart_state AS ENUM ('basket', 'paid', 'refunded', 'cancelled')")
    op.add_column("carts", sa.Column("state", STATE))
    op.execute(STATE_FUNCTION)
    op.execute(STATE_TRIGGER)
    op.create_check_constraint("ck_carts_state_set", "carts", "state IS NOT NULL", postgresql_not_valid=True)
    op.create_index(
        "uq_carts_basket", "carts", ["customer_id"], unique=True, postgresql_where=sa.text("state = 'basket'")
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER carts_sync_state ON carts")
    op.execute("DROP FUNCTION carts_sync_state()")
    op.drop_column("carts", "state")
    op.execute("DROP TYPE cart_state")
