"""Fill the ticket's priority level

Second of four. One statement is enough: no tenant had more than a few hundred thousand tickets. Going back leaves the
values where they are, as the trigger of the revision before wants them.

Revision ID: 8da48588a25f
Revises: d9d9a5c363ec
Create Date: 2025-04-08 11:41:37+00:00
"""

from alembic import op

revision = "8da48588a25f"
down_revision = "d9d9a5c363ec"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        UPDATE tickets SET priority_level = array_position(ARRAY['low', 'normal', 'high', 'urgent'], priority)
        WHERE priority_level IS NULL
        """
    )


def downgrade() -> None:
    pass
