"""Batched data migrations: what is asked, decided and told of them. Pure; neither Alembic nor any driver is known here."""
