"""Build Alembic's `Config` for a track as its command line would, wherever the daemon was started."""

from __future__ import annotations

import argparse
import configparser
import contextlib
import io
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic
from alembic.config import Config
from alembic.script import ScriptDirectory

from orchestrator.errors import HistoryError
from orchestrator.registry.model import Track


def make(track: Track, *, url: str | None = None, tenant: str | None = None) -> Config:
    """A `Config` of its own for one run: `sqlalchemy.url` is `url`, and `-x tenant=<id>` was given.

    Raises HistoryError when the track's configuration cannot be read.
    """
    with _explained(track):
        return _made(track, url, tenant)


def _made(track: Track, url: str | None, tenant: str | None) -> Config:
    options = argparse.Namespace(x=[f"tenant={tenant}"] if tenant is not None else [], config=None, name=track.section)
    config = Config(**_files(track), ini_section=track.section, stdout=io.StringIO(), cmd_opts=options)
    _require_section(track, config)
    location = _location(track, config)
    if location is not None:
        config.set_main_option("script_location", _escaped(location))
    if url is not None:
        config.set_main_option("sqlalchemy.url", _escaped(url))
    return config


def directory(track: Track, config: Config) -> ScriptDirectory:
    """The track's `ScriptDirectory`; relative entries of its configuration are relative to that file.

    Alembic resolves them against the working directory, which for a daemon means nothing. Raises HistoryError as
    `make` does.
    """
    before = list(sys.path)
    with _explained(track):
        scripts = ScriptDirectory.from_config(config)
    added = sys.path[: len(sys.path) - len(before)]
    sys.path[:] = before
    folder = base(track)
    for entry in [str(folder / entry) for entry in reversed(added)]:
        if entry not in sys.path:
            sys.path.insert(0, entry)
    scripts.version_locations = [_absolute(place, folder) for place in scripts.version_locations or ()]
    return scripts


@contextlib.contextmanager
def _explained(track: Track) -> Iterator[None]:
    """HistoryError with the file for whatever keeps a configuration from being read."""
    try:
        yield
    except (configparser.Error, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise HistoryError(
            f"the configuration cannot be read: {type(exc).__name__}: {' '.join(str(exc).split())}",
            track=track.name,
            file=_to_blame(track, exc),
            remedy="make the file readable for the orchestrator" if isinstance(exc, OSError) else "correct the file",
        ) from exc


def _to_blame(track: Track, exc: Exception) -> str:
    named = exc.filename if isinstance(exc, OSError) else vars(exc).get("source")
    if isinstance(named, str):
        return named
    place = track.config or track.script_location
    if isinstance(exc, tomllib.TOMLDecodeError) and place is not None:
        return str(place.parent / "pyproject.toml")
    return str(place)


def _absolute(place: str, base: Path) -> str:
    """A version location; `package:dir` and absolute ones stay as they are."""
    return place if ":" in place or Path(place).is_absolute() else str(base / place)


def _files(track: Track) -> dict[str, Any]:
    if track.config is None:
        return {}
    folder = track.config.parent
    ini = folder / "alembic.ini" if track.config.suffix == ".toml" else track.config
    toml = track.config if track.config.suffix == ".toml" else folder / "pyproject.toml"
    files: dict[str, Any] = {}
    if ini.exists():
        ini.open().close()  # ConfigParser takes one that it may not open for an empty one
        files["file_"] = str(ini)
    if toml.exists() and _reads_toml():
        files["toml_file"] = str(toml)
    elif track.config.suffix == ".toml":
        raise HistoryError(
            f"Alembic {alembic.__version__} cannot read its configuration from {track.config.name}",
            track=track.name,
            file=str(track.config),
            remedy="upgrade Alembic to 1.16 or newer, or use alembic.ini",
        )
    return files


def _reads_toml() -> bool:
    return tuple(int(part) for part in alembic.__version__.split(".")[:2]) >= (1, 16)


def _require_section(track: Track, config: Config) -> None:
    # With only pyproject.toml, an empty in-memory section takes the place of the missing file.
    if not config.file_config.has_section(track.section):
        if track.config is not None and track.config.suffix != ".toml":
            found = ", ".join(f"[{name}]" for name in config.file_config.sections())
            raise HistoryError(
                f"there is no section [{track.section}]",
                track=track.name,
                file=str(track.config),
                remedy=f"set `section:` of the track to one of {found}" if found else "add it",
            )
        config.file_config.add_section(track.section)


def _location(track: Track, config: Config) -> str | None:
    """Where the scripts are, made absolute; None: leave the finding, and its error, to Alembic."""
    if track.script_location is not None:
        return str(track.script_location)
    given = getattr(config, "get_alembic_option", config.get_main_option)("script_location")
    if not given or ":" in given or Path(given).is_absolute():
        return None
    return str(base(track) / given)


def base(track: Track) -> Path:
    """The folder that relative paths of the track's configuration start from."""
    place = track.config or track.script_location
    assert place is not None, "a track has a script_location or a config"
    return place.parent


def _escaped(value: str) -> str:
    """ConfigParser interpolates: a percent sign in a password or a path must be doubled."""
    return value.replace("%", "%%")
