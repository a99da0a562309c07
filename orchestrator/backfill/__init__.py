"""Batched data migrations: what is asked, decided and told. Pure: neither Alembic nor any driver is known here."""
