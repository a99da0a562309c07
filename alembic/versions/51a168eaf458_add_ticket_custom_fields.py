"""Add custom fields to tickets

Each tenant defines its own fields, so they are one JSON object per ticket. The default is constant: PostgreSQL keeps it
in the catalog and writes no row.

Revision ID: 51a168eaf458
Revises: 88870840d2bd
Create Date: 2025-08-05 10:44:57+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "51a168eaf458"
down_revision = "88870840d2bd"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tickets", sa.Column("custom_fields", postgresql.JSONB, nullable=False, server_default=sa.text("'{}'"))
    )
    op.create_check_constraint(
        "ck_tickets_custom_fields", "tickets", "jsonb_typeof(custom_fields) = 'object'", postgresql_not_valid=True
    )
    op.execute("ALTER TABLE tickets VALIDATE CONSTRAINT ck_tickets_custom_fields")


def downgrade() -> None:
    op.drop_column("tickets", "custom_fields")
