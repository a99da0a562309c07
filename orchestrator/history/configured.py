"""What Alembic's configuration of a track says, as digests: env.py may go by any of it.

Only its meaning counts, not its comments; nor do URLs, in whose place a target's own is given, and which differ from
machine to machine, nor how logs are written, nor where the file lies.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from orchestrator.registry.model import Track

_URL = "sqlalchemy.url"
_LOGGING = ("loggers", "handlers", "formatters", "logger_", "handler_", "formatter_")


def files(track: Track) -> Iterator[Path]:
    """Those that Alembic reads for the track, and that are there."""
    if track.config is not None:
        beside = track.config.with_name
        is_toml = track.config.suffix == ".toml"
        both = (beside("alembic.ini"), track.config) if is_toml else (track.config, beside("pyproject.toml"))
        yield from (file for file in both if file.exists())


def contents_of(track: Track) -> Iterator[tuple[str, str]]:
    """Names of the files, and digests of what they say. Raises OSError."""
    for file in files(track):
        written = file.read_bytes()
        digest = (_tool if file.suffix == ".toml" else _sections)(written, str(file.parent))
        if digest is not None:
            yield file.name, digest


@lru_cache(maxsize=32)  # each run of env.py asks
def _sections(written: bytes, folder: str) -> str:
    """
    >>> digest = _sections(b"[alembic]\\n# a word\\na = /x/1\\nsqlalchemy.url = y\\n[loggers]\\nkeys = root", "/x")
    >>> digest == _sections(b"[alembic]\\na: %(here)s/1", "/y")
    True
    >>> digest == _sections(b"[alembic]\\na = /x/2", "/x")
    False
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(written.decode())
    except (configparser.Error, UnicodeDecodeError):
        return hashlib.sha256(written).hexdigest()
    kept = [name for name in parser.sections() if not name.startswith(_LOGGING)]
    said = {name: {key: value for key, value in parser.items(name) if key != _URL} for name in kept}
    return _digest(said, folder)


@lru_cache(maxsize=32)
def _tool(written: bytes, folder: str) -> str | None:
    """None of a file that says nothing to Alembic.

    >>> _tool(b"[tool.alembic]\\na = 1\\n[project]\\nversion = '1'", "/x") == _tool(b"[tool.alembic]\\na = 1", "/x")
    True
    """
    try:
        said = tomllib.loads(written.decode()).get("tool", {}).get("alembic")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError):
        return hashlib.sha256(written).hexdigest()
    return None if said is None else _digest(said, folder)


def _digest(said: object, folder: str) -> str:
    text = json.dumps(said, sort_keys=True, default=str, ensure_ascii=False).replace(folder, "%(here)s")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
