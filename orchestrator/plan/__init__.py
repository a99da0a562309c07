"""WHAT: plans as values. Pure: no driver, no Alembic, no clock."""
