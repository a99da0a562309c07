"""The application that an env.py of Flask-Migrate runs in: `flask db upgrade` makes it, and so do we."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import MigrationFailedError
from orchestrator.history import sources

VARIABLE = "FLASK_APP"


@contextmanager
def entered(folder: str) -> Iterator[None]:
    """Within this context, an env.py in `folder` that asks for `flask.current_app` finds one.

    It is made as Flask's command line makes it, from `FLASK_APP`, whose module is also looked for beside the folder.
    Raises MigrationFailedError when the variable is not set, and whatever making the application raises.
    """
    if not sources.takes_current_app(str(Path(folder, "env.py"))):
        yield
        return
    named = os.environ.get(VARIABLE)
    if not named:
        raise MigrationFailedError(
            f"env.py takes `flask.current_app`, and {VARIABLE} does not say which application that is",
            remedy=f"set the track's `isolation: process` and `environment:` with {VARIABLE}, as for `flask run`, and "
            "with the variable from which the application has its database's URL",
        )
    beside = str(Path(folder).parent)
    if beside not in sys.path:
        sys.path.insert(0, beside)
    application = importlib.import_module("flask.cli").ScriptInfo(named).load_app()
    with application.app_context():
        yield
