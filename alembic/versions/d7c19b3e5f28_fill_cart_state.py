"""Fill the cart's state

Second of three. The key of a cart is a UUID, by which rows are gone through as well as by a number. New carts come
anywhere in that order, also where it has been already: they have their state from the trigger.

Revision ID: d7c19b3e5f28
Revises: 3fa8062bd94e
Create Date: 2026-03-10 14:31:17+00:00
"""

from alembic import op

revision = "d7c19b3e5f28"
down_revision = "3fa8062bd94e"
branch_labels = None
depends_on = None

STATE = """
CASE status
    WHEN 'open' THEN 'basket'
    WHEN 'ordered' THEN 'paid'
    WHEN 'returned' THEN 'refunded'
    WHEN 'cancelled' THEN 'cancelled'
END::cart_state
"""


def upgrade() -> None:
    op.backfill("carts", set_={"state": STATE}, where="state IS NULL")


def downgrade() -> None:
    # The trigger of the revision before keeps the two alike, so there is nothing to take back.
    op.verify("SELECT true", "the values stay")
