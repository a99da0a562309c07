"""HOW: shares are driven, targets migrated."""
