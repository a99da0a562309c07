"""The command line: says what it is told to say, decides nothing. Commands import what they need when they run."""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from orchestrator.cli.application import app

    app()
