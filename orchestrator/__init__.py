"""Rolls Alembic migrations out to hundreds of tenant databases: concurrently, safely, visibly."""

__version__ = "0.1.0"
