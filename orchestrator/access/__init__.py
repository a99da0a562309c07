"""Who asks, what they may do, and the record of what they did. Values and decisions: no store, no HTTP server."""
