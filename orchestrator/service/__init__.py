"""The only wiring: joins the registry, the histories, the store, the engine and what tells of them."""
