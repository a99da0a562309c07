"""The control database: what must survive a restart."""
