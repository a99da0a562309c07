"""Speaks HTTP to a daemon, for the command line and for other programs."""
