"""Alembic's side: reading a track's revisions and running its env.py. Nothing above may import Alembic."""
