"""The Alembic environment that the demo's tenants are migrated with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import ConfigurationError

PACKAGE = Path(__file__).parent


def find(places: Sequence[Path] = (PACKAGE / "environment", PACKAGE.parent.parent / "alembic")) -> Path:
    """The folder with env.py: in an installed wheel beside this file, in a checkout at the top.

    Raises ConfigurationError when there is none. (Beside an installed package, `alembic` is the library itself.)
    """
    for place in places:
        if (place / "env.py").is_file() and (place / "versions").is_dir():
            return place
    raise ConfigurationError("this installation lacks the demo's migrations", remedy="install the wheel again")
