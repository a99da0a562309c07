"""Every shape of tenancy, on real servers."""
