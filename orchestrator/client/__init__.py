"""Speaks HTTP to a daemon, for the command line and for other programs."""

from orchestrator.client.daemon import Daemon as Daemon
from orchestrator.client.shapes import Event as Event
