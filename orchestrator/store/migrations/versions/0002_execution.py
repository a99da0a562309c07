"""How each migration was carried out.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("migrations", sa.Column("execution", sa.String(16)))


def downgrade() -> None:
    op.drop_column("migrations", "execution")
