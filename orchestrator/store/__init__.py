"""The control database: what must survive a restart."""

from orchestrator.store.engine import Store, open_store

__all__ = ["Store", "open_store"]
