"""Create order carts

Half of all tickets are about an order. Carts are copied from the shop and linked with tickets, so that an agent sees
what was bought without leaving the conversation. The shop numbers its carts itself, hence the UUID and `shop_ref`.

Revision ID: 38b94514c01c
Revises: 2a42e3ab77ef
Create Date: 2025-02-24 16:05:33+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "38b94514c01c"
down_revision = "2a42e3ab77ef"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "carts",
        sa.Column("id", sa.Uuid, server_default=sa.func.gen_random_uuid()),
        sa.Column("customer_id", sa.BigInteger, nullable=False),
        sa.Column("shop_ref", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default="open"),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("total_cents", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("ordered_at", sa.TIMESTAMP(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_carts"),
        sa.ForeignKeyConstraint(["customer_id"], ["users.id"], name="fk_carts_customer"),
        sa.UniqueConstraint("shop_ref", name="uq_carts_shop_ref"),
        sa.CheckConstraint("status IN ('open', 'ordered', 'returned', 'cancelled')", name="ck_carts_status"),
        sa.CheckConstraint("currency = upper(currency)", name="ck_carts_currency"),
        sa.CheckConstraint("total_cents >= 0", name="ck_carts_total"),
    )
    op.create_index("uq_carts_open", "carts", ["customer_id"], unique=True, postgresql_where=sa.text("status = 'open'"))
    op.create_table(
        "ticket_carts",
        sa.Column("ticket_id", sa.BigInteger),
        sa.Column("cart_id", sa.Uuid),
        sa.PrimaryKeyConstraint("ticket_id", "cart_id", name="pk_ticket_carts"),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name="fk_ticket_carts_ticket", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["cart_id"], ["carts.id"], name="fk_ticket_carts_cart", ondelete="CASCADE"),
    )
    op.create_index("ix_ticket_carts_cart", "ticket_carts", ["cart_id"])


def downgrade() -> None:
    op.drop_table("ticket_carts")
    op.drop_table("carts")
