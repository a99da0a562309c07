"""Everything on one machine: two private PostgreSQL servers full of tenants, and a daemon that migrates them."""
