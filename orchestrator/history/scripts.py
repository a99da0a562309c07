"""Read a track's revision files, once: they are executed, so only ever in a worker process."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionMap
from alembic.util import CommandError

from orchestrator.errors import HistoryError
from orchestrator.history import config as configuration
from orchestrator.history import mixed, reversals
from orchestrator.history.mixed import DIRECTIONS
from orchestrator.history.places import line_of, null_byte
from orchestrator.history.revisions import RevisionFile, Snapshot, contents_of, digest_over, python_files
from orchestrator.registry.model import Track
from orchestrator.registry.precautions import Verification


def read(track: Track) -> tuple[Snapshot, ScriptDirectory]:
    """Execute the track's revision files: their values, and what runs them.

    Raises HistoryError with file and line for a file that does not load. Runs the project's code: only ever called in
    a worker process.
    """
    try:
        return _read(track)
    except CommandError as exc:
        raise HistoryError(
            str(exc), track=track.name, file=str(track.config or track.script_location), remedy="correct the track"
        ) from exc
    except OSError as exc:
        raise HistoryError(
            f"a file cannot be read: {exc.strerror or exc}",
            track=track.name,
            file=str(exc.filename or track.config or track.script_location),
            remedy="make it readable for the orchestrator",
        ) from exc


def _read(track: Track) -> tuple[Snapshot, ScriptDirectory]:
    scripts = configuration.directory(track, configuration.make(track))
    folder = Path(scripts.dir).resolve()
    if not (folder / "env.py").exists():
        raise HistoryError(
            "there is no env.py",
            track=track.name,
            file=str(folder),
            remedy="point script_location at the folder with it",
        )
    places = (str(folder), tuple(map(str, scripts._version_locations)), bool(scripts.recursive_version_locations))
    contents = contents_of(track, *places)
    loaded = list(_execute(track, scripts, places))
    _check_unique(track, loaded)
    _check_functions(track, loaded)
    # The files are executed once: what was loaded serves the run as well, ready before threads ask for it.
    scripts.revision_map = RevisionMap(lambda: loaded)
    files = tuple(_as_file(track, script) for script in loaded)
    return Snapshot(*places, digest_over(contents), files, contents=contents, reached=scripts.dir), scripts


def _execute(track: Track, scripts: ScriptDirectory, places: tuple[str, tuple[str, ...], bool]) -> Iterator[Script]:
    try:
        yield from scripts._load_revisions()
    except HistoryError:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as exc:
        file, line = _where(exc, places)
        raise HistoryError(
            f"a revision file cannot be loaded: {_in_words(exc)}",
            track=track.name,
            file=file,
            line=line,
            remedy="correct the file; nothing was started",
        ) from exc


def _check_unique(track: Track, scripts: list[Script]) -> None:
    seen: dict[str, str] = {}
    for script in scripts:
        if script.revision in seen:
            raise HistoryError(
                f"revision {script.revision!r} is declared twice, also in {seen[script.revision]}",
                track=track.name,
                file=script.path,
                line=line_of(script.path, "revision"),
                remedy="give one of them an id of its own (`alembic revision` makes one)",
            )
        seen[script.revision] = Path(script.path).name


def _check_functions(track: Track, scripts: list[Script]) -> None:
    for script in scripts:
        if not callable(getattr(script.module, "upgrade", None)):
            raise HistoryError(
                f"revision {script.revision!r} has no function `upgrade`",
                track=track.name,
                file=script.path,
                remedy="define it, with `pass` where there is nothing to do",
            )


def _as_file(track: Track, script: Script) -> RevisionFile:
    source = Path(script.path).read_bytes()
    return RevisionFile(
        script.revision,
        _as_tuple(script.down_revision),
        _as_tuple(script.dependencies),
        tuple(sorted(script._orig_branch_labels or ())),
        (script.doc or "").strip(),
        script.path,
        reversals.irreversible(script.path, script.module),
        _verify(track, script),
        tuple(way for way in DIRECTIONS if mixed.holds_backfill(source, way)),
        mixed.mixed(source),
    )


def _verify(track: Track, script: Script) -> tuple[Verification, ...]:
    """The list `verify` of the file; a function of that name is the project's own business."""
    written = getattr(script.module, "verify", None)
    if written is None or callable(written) or isinstance(written, ModuleType):
        return ()
    try:
        from orchestrator.registry import verifications  # a fifth of a worker's start, and few revisions have any

        return verifications.declared(script.revision, written)
    except ValueError as exc:
        raise HistoryError(
            f"revision {script.revision!r}: {exc}",
            track=track.name,
            file=script.path,
            line=line_of(script.path, "verify"),
            remedy="correct it; nothing was started",
        ) from exc


def _where(exc: BaseException, places: tuple[str, tuple[str, ...], bool]) -> tuple[str | None, int | None]:
    """File and line to blame: a syntax error's own, else the innermost frame inside the project's script folders."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return exc.filename, exc.lineno
    folders = {Path(place).resolve() for place in (places[0], *places[1])}
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if _is_below(frame.filename, folders)]
    if frames:
        return frames[-1].filename, frames[-1].lineno
    # Alembic itself refuses what the file declares: the file is the one that its `Script` was being made of, or, for
    # want of `revision`, one that the message names without its folder.
    for frame, _ in traceback.walk_tb(exc.__traceback__):
        made = frame.f_locals.get("path") if isinstance(frame.f_locals.get("self"), Script) else None
        if made is not None:
            return str(made), line_of(str(made), "revision")
    for file in map(str, python_files(*places)):
        if (line := null_byte(file)) is not None:
            return file, line
    named = (file for file in python_files(*places) if f"filename {file.name}." in str(exc))
    return str(next(named, places[0])), None


def _is_below(filename: str, folders: set[Path]) -> bool:
    return not folders.isdisjoint(Path(filename).resolve().parents)


def _in_words(exc: BaseException) -> str:
    text = exc.msg if isinstance(exc, SyntaxError) else str(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _as_tuple(value: str | Iterable[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
