"""What was found in env.py that will fail when it runs, as errors with their remedies."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import HistoryError
from orchestrator.history.findings import UNCLEAR, EnvPy
from orchestrator.history.revisions import History
from orchestrator.registry.model import Track

_PROCESS = "`isolation: process` and `environment:` with "


def of_env_py(track: Track, history: History) -> HistoryError | None:
    """The first thing in the track's env.py that no target would get past; None when nothing is known."""
    env_py = history.env_py
    found = _missing_variable(track, env_py) or _missing_argument(env_py) or _elsewhere(track, env_py)
    found = found or _unclear(track, env_py) or _ends(env_py)
    if found is None:
        return None
    message, remedy = found
    file = str(Path(history.snapshot.folder, "env.py"))
    return HistoryError(message, track=track.name, file=file, remedy=remedy)


def _missing_variable(track: Track, env_py: EnvPy) -> tuple[str, str] | None:
    name = _missing_key(env_py, env_py.variables)
    if name is None:
        return None
    return (
        f"env.py reads the environment variable {name}, which is not set",
        f"set the track's {_PROCESS}{name}: as `{{url}}` if it is the database's URL",
    )


def _missing_argument(env_py: EnvPy) -> tuple[str, str] | None:
    name = _missing_key(env_py, env_py.arguments)
    if name is None:
        return None
    return (
        f"env.py insists on `-x {name}=`, and only `-x tenant=` is given",
        f"let it ask with `.get({name!r})`, or derive it from the tenant",
    )


def _ends(env_py: EnvPy) -> tuple[str, str] | None:
    if not (env_py.problem or "").startswith("SystemExit"):
        return None
    return f"env.py ends by itself ({env_py.problem}) before it runs migrations", "take out what ends it"


def _missing_key(env_py: EnvPy, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if env_py.problem == f"KeyError: {name!r}"), None)


def _elsewhere(track: Track, env_py: EnvPy) -> tuple[str, str] | None:
    if env_py.elsewhere is None:
        return None
    remedy = "let it take its URL from `sqlalchemy.url`"
    if env_py.variables:
        names = ", ".join(env_py.variables)
        remedy += f", or set the track's {_PROCESS}what it reads ({names}), as `{{url}}` where it is the URL"
    return f"env.py connects to {env_py.elsewhere}, whatever the tenant's database is", remedy


def _unclear(track: Track, env_py: EnvPy) -> tuple[str, str] | None:
    for key, name in (
        ("version_table", env_py.version_table),
        ("version_table_schema", env_py.version_table_schema),
    ):
        if name == UNCLEAR and "{tenant}" not in (getattr(track, key) or ""):
            return (
                f"env.py makes its `{key}` from the tenant in a way that cannot be told beforehand",
                f"set `{key}` on the track to what it makes, with {{tenant}} in it",
            )
    return None
