"""HTTP: speaks; decides nothing."""
