"""Where the backups of one target lie: a folder for each, which is whole or not there at all.

    <directory>/<tenant>.<track>-<digest>/20261125T210304.123Z-<rollout>/backup.dump
                                                                        /about.json

The digest is over tenant, track and place, so that no two targets share a folder, whatever their names look like, nor
do two fleets that are backed up into one directory. What is not whole has a name with `.partial-` before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.events import now, timestamp

ABOUT, PARTIAL = "about.json", ".partial-"
_LONGEST = 80
_ODD = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class About:
    """What a backup is of. `heads`: what the version table held, which need not lie within it; None: no such table."""

    rollout: str
    direction: str
    tenant: str
    track: str
    shard: str
    place: str
    heads: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole backup: a file, or a folder where a command made one."""

    file: Path
    size: int


def folder_name(tenant: str, track: str, place: str) -> str:
    """A name that every file system takes, one for each target.

    >>> folder_name("a/../b", "app", "x").startswith("a_.._b.app-")
    True
    """
    digest = hashlib.sha256("\0".join((tenant, track, place)).encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{_ODD.sub('_', f'{tenant}.{track}')[:_LONGEST].lstrip('.-')}-{digest}"


class Shelf:
    """The backups of one target. Everything blocks, and raises OSError; the target's lock keeps others away."""

    def __init__(self, directory: Path, about: About) -> None:
        self._directory, self._about = directory, about
        self._folder = directory / folder_name(about.tenant, about.track, about.place)

    def find(self) -> Kept | None:
        """The backup that this rollout has made in this direction: from before its first change of the target."""
        for folder in self._whole():
            told = _read(folder)
            if told["rollout"] == self._about.rollout and told["direction"] == self._about.direction:
                file = folder / str(told["file"])
                if file.exists() and size_of(file) == told["bytes"]:
                    return Kept(file, size_of(file))
        return None

    def begin(self, suffix: str) -> Path:
        """A path for a new backup, with nothing there yet; what killed runs left behind goes."""
        _make(self._directory)
        _make(self._folder)
        for left in self._folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self._folder / f"{PARTIAL}{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        return folder / f"backup.{suffix}"

    def finish(self, file: Path) -> Kept:
        """Make the backup durable, and then visible under its name."""
        size = size_of(file)
        moment = now()
        told = {**asdict(self._about), "taken_at": timestamp(moment), "file": file.name, "bytes": size}
        about = file.with_name(ABOUT)
        about.touch(mode=0o600)
        about.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        for path in (*_tree(file), about, file.parent):
            path.chmod(0o700 if path.is_dir() else 0o600)
            _sync(path)
        name = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{_ODD.sub('_', self._about.rollout)}"
        final = self._folder / name
        file.parent.rename(final)
        _sync(self._folder)
        _sync(self._directory)
        return Kept(final / file.name, size)

    def discard(self, file: Path) -> None:
        """Leave nothing of a backup that is not whole. Never raises."""
        shutil.rmtree(file.parent, ignore_errors=True)

    def rotate(self, keep: int) -> None:
        """Remove the oldest whole ones beyond `keep`; of this rollout's own, none."""
        whole = sorted(self._whole(), reverse=True)
        own = [folder for folder in whole if _read(folder)["rollout"] == self._about.rollout]
        others = [folder for folder in whole if folder not in own]
        for folder in others[max(0, keep - len(own)) :]:
            going = self._folder / f"{PARTIAL}{folder.name}"  # not whole from this moment
            folder.rename(going)
            shutil.rmtree(going)

    def _whole(self) -> Iterator[Path]:
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if not folder.name.startswith(PARTIAL) and (folder / ABOUT).is_file():
                yield folder


def size_of(file: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(path.stat().st_size for path in _tree(file) if path.is_file())


def _tree(file: Path) -> Iterator[Path]:
    """The file, or a folder with all that is in it, innermost first."""
    if file.is_dir():
        for parent, folders, files in os.walk(file, topdown=False):
            yield from (Path(parent, name) for name in (*files, *folders))
    yield file


def _read(folder: Path) -> dict[str, object]:
    try:
        told = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except ValueError:
        told = {}
    return {"rollout": None, "direction": None, "file": "", "bytes": -1, **told}


def _make(folder: Path) -> None:
    """With all that are missing above it, each our user's alone."""
    if not folder.is_dir():
        if folder.parent != folder:
            _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
