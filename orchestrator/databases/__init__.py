"""Tenant databases: the only code that speaks to them."""
