"""WHO: tenants, shards, tracks and the targets they make."""
