"""`orchestrator schema`."""

from __future__ import annotations

from orchestrator.cli import screen


def schema() -> None:
    """Print the JSON Schema of the registry file, for editors and CI."""
    from orchestrator.registry import manifest

    screen.write_json(manifest.json_schema())
