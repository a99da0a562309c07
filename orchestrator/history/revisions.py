"""A track's revisions as values, and planning's questions about them.

Graph questions go to Alembic's own `RevisionMap`, built from plain values, so that they can be asked in the daemon
also of a history whose files may only be executed in a worker process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from alembic.script.revision import MultipleHeads, ResolutionError, Revision, RevisionError, RevisionMap
from alembic.util import CommandError

from orchestrator.errors import HistoryError, UnplannableError
from orchestrator.history import configured, drivers, goals, modules
from orchestrator.history.findings import EnvPy
from orchestrator.history.mixed import Mixed
from orchestrator.history.places import line_of
from orchestrator.plan.steps import Direction
from orchestrator.registry.model import Heads, Track
from orchestrator.registry.precautions import Verification

# Names of files, and digests of what is in them.
Contents = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RevisionFile:
    """One revision as its file declares it.

    `irreversible`: why it cannot be taken back, where that is sure; `verify`: what must hold when it was applied.
    `backfills`: the directions in which it holds backfills; `mixed`: what must not stand beside them.
    """

    revision: str
    down: tuple[str, ...]
    depends_on: tuple[str, ...]
    labels: tuple[str, ...]
    doc: str
    file: str
    irreversible: str | None = None
    verify: tuple[Verification, ...] = ()
    backfills: tuple[Direction, ...] = ()
    mixed: tuple[Mixed, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A track's files at one moment; picklable.

    `digest` covers env.py and all revision files, which lie in `folder` and `version_folders`, what Alembic's
    configuration says, and the `modules` of the project that they import; `contents` has the digest of each by name.
    `env_py` is known of files that were read to plan with them, and so are the modules. `reached`: how the folder was
    found, maybe through a symbolic link.
    """

    folder: str
    version_folders: tuple[str, ...]
    recursive: bool
    digest: str
    files: tuple[RevisionFile, ...]
    env_py: EnvPy = field(default_factory=EnvPy)
    contents: Contents = ()
    modules: tuple[str, ...] = ()
    reached: str = ""

    def with_modules(self, files: tuple[str, ...]) -> Snapshot:
        """The same, where these modules count as well."""
        contents = (*self.contents, *modules.contents_of(files, self.folder, self.contents))
        return replace(self, contents=contents, digest=digest_over(contents), modules=files)


class History:
    """A track's revisions, as planning needs them: values, no code of the project."""

    def __init__(self, track: Track, snapshot: Snapshot) -> None:
        self.track, self.snapshot = track, snapshot
        self._backfills: dict[Direction, frozenset[str]] = {}
        self._files = {file.revision: file for file in snapshot.files}
        self._labels = self._labelled()
        self._check_parents()
        self._map = RevisionMap(lambda: [_as_revision(file) for file in snapshot.files])
        try:
            self.heads: Heads = tuple(sorted(self._map.heads))
        except (RevisionError, KeyError) as exc:
            raise self._not_a_history(exc) from exc

    @property
    def digest(self) -> str:
        return self.snapshot.digest

    @property
    def env_py(self) -> EnvPy:
        return self.snapshot.env_py

    @cached_property
    def irreversible(self) -> Mapping[str, str]:
        """Why a revision cannot be taken back, for those of which it is sure."""
        return {file.revision: file.irreversible for file in self.snapshot.files if file.irreversible is not None}

    def backfills(self, direction: Direction) -> frozenset[str]:
        """The revisions that hold backfills, and nothing else, in this direction."""
        if direction not in self._backfills:
            found = (one for one in self.snapshot.files if direction in one.backfills and not one.mixed)
            self._backfills[direction] = frozenset(one.revision for one in found)
        return self._backfills[direction]

    def mixed(self, direction: Direction) -> Mapping[str, str]:
        """What stands beside a revision's backfills in this direction and must not, in words, with file and line."""
        return {
            one.revision: "; ".join(f"{it.what} ({Path(one.file).name}:{it.line})" for it in one.mixed)
            for one in self.snapshot.files
            if one.mixed and direction in one.backfills
        }

    @cached_property
    def is_async(self) -> bool:
        """Whether env.py builds an async engine."""
        return drivers.is_async(Path(self.snapshot.folder, "env.py"))

    def is_current(self) -> bool:
        """True when the files on disk are the ones that were read."""
        now = self.snapshot
        if str(Path(now.reached or now.folder).resolve()) != now.folder:
            return False  # a link leads to another release
        contents = contents_of(self.track, now.folder, now.version_folders, now.recursive)
        return digest_over((*contents, *modules.contents_of(now.modules, now.folder, contents))) == self.digest

    def __contains__(self, revision: str) -> bool:
        return revision in self._files

    def verify(self, revision: str) -> tuple[Verification, ...]:
        """What its file says must hold when it was applied; nothing of one that this build does not have."""
        file = self._files.get(revision)
        return file.verify if file is not None else ()

    def unknown(self, heads: Heads) -> Heads:
        """Those of `heads` that this build does not have."""
        return tuple(head for head in heads if head not in self._files)

    def resolve(self, goal: str, direction: Direction = "upgrade") -> Heads:
        """The revision ids that `goal` means in this build; empty for `base`. A goal that only a target's own heads
        resolve (`goals.is_open`) is given back as it is.

        Raises HistoryError for an unknown revision or label, several heads under `head`, and a goal that is against
        the direction.
        """
        if not self._files:
            folders = ", ".join(self.snapshot.version_folders) or self.snapshot.folder
            raise self._error(
                f"there are no revision files in {folders}",
                "make the first revision, or correct `version_locations`; folders that env.py sets itself are not seen",
            )
        if goals.is_relative(goal):
            return self._relative(goal, direction)
        if goal == "base" and direction == "upgrade":
            raise self._error("an upgrade cannot go to 'base'", "use --direction downgrade")
        try:
            if goals.is_from_revision(goal) and goal not in self:
                return goals.counted(self._map, goal, direction)
            found = self._map.get_revisions(goal)
        except MultipleHeads as exc:
            raise self._several_heads(exc.heads) from exc
        except UnplannableError as exc:
            raise self._error(exc.message, exc.remedy or "") from exc
        except (ResolutionError, RevisionError, CommandError) as exc:
            raise self._error(f"there is no revision {goal!r} in this build", self._known()) from exc
        if direction == "downgrade" and "@" in goal:
            return (goal,)
        ids = tuple(sorted(revision.revision for revision in found if isinstance(revision, Revision)))
        if direction == "downgrade" and len(ids) > 1:
            raise self._error(f"a downgrade goes to one revision; {goal!r} means {', '.join(ids)}", "name one of them")
        return ids

    def _relative(self, goal: str, direction: Direction) -> Heads:
        if (wrong := goals.objection(goal, direction)) is not None:
            raise self._error(*wrong)
        label, _, _ = goal.rpartition("@")
        if label and label not in self._labels and label not in self:
            labels = ", ".join(sorted(self._labels)) or "none"
            raise self._error(f"there is no branch {label!r} in this build", f"the branch labels are: {labels}")
        return (goal,)

    def is_relative(self, goal: Heads) -> bool:
        return goals.is_open(goal)

    def missing(self, goal: Heads) -> Heads:
        """Those revisions of a goal, as `resolve` gave it, that this build does not have."""
        if not goals.is_open(goal):
            return self.unknown(goal)
        label, _, revision = goal[0].rpartition("@")
        named = () if goals.is_relative(revision) or revision in ("base", "") else (revision,)
        return tuple(name for name in (label, *named) if name and name not in self._labels and name not in self)

    def after(self, heads: Heads, steps: tuple[str, ...], direction: Direction) -> Heads:
        """The heads when these steps have run: what nothing that is applied follows from."""
        applied = set(self.ancestors(heads))
        applied = applied - set(steps) if direction == "downgrade" else applied | set(steps)
        return tuple(sorted(applied - {parent for revision in applied for parent in self._parents(revision)}))

    def _parents(self, revision: str) -> Iterator[str]:
        file = self._files[revision]
        yield from file.down
        yield from (self._labels.get(other, other) for other in file.depends_on)

    def steps(self, heads: Heads, goal: Heads, direction: Direction) -> tuple[str, ...]:
        """Revisions to run, in order; empty when a target with these (known) heads is at the goal or beyond it.

        Of a stamp, what is to be written. Raises UnplannableError for an open goal that leads nowhere from there.
        """
        if direction == "stamp":
            there = set(goal) <= set(heads) if goal else not heads
            return () if there else goal or ("base",)
        if goals.is_open(goal):
            return goals.walked(self._map, heads, goal[0], direction)
        try:
            return self._downgrade(heads, goal) if direction == "downgrade" else self._upgrade(heads, goal)
        except (RevisionError, CommandError) as exc:
            raise UnplannableError(
                f"no steps lead from {', '.join(heads) or 'base'} to {', '.join(goal) or 'base'}: {exc}",
                remedy="look at what the version table holds",
            ) from exc

    def _upgrade(self, heads: Heads, goal: Heads) -> tuple[str, ...]:
        found: list[str] = []
        for revision in self._map.iterate_revisions(argument(goal), heads, implicit_base=True):
            assert revision is not None
            found.append(revision.revision)
        return tuple(reversed(found))

    def ancestors(self, heads: Heads) -> frozenset[str]:
        """All that a database at `heads` has applied, `heads` included."""
        seen: set[str] = set()
        waiting = list(heads)
        while waiting:
            revision = waiting.pop()
            if revision not in seen:
                seen.add(revision)
                waiting += self._parents(revision)
        return frozenset(seen)

    def _labelled(self) -> dict[str, str]:
        """The revision that carries each branch label."""
        labels: dict[str, str] = {}
        for file in self.snapshot.files:
            for label in file.labels:
                if label in labels:
                    raise HistoryError(
                        f"the branch label {label!r} is given twice, also in {self._files[labels[label]].file}",
                        track=self.track.name,
                        file=file.file,
                        line=line_of(file.file, "branch_labels"),
                        remedy="take it out of one of them: the revisions that follow have it anyway",
                    )
                labels[label] = file.revision
        return labels

    def _not_a_history(self, exc: Exception) -> HistoryError:
        named = {*getattr(exc, "revisions", ()), getattr(exc, "revision", None)}
        files = [file.file for file in self.snapshot.files if file.revision in named]
        return HistoryError(
            f"the revisions do not form a history: {exc}",
            track=self.track.name,
            file=", ".join(files) or self.snapshot.folder,
            remedy="correct `down_revision` or `depends_on`: each revision follows from older ones only",
        )

    def _check_parents(self) -> None:
        # Alembic only warns of a missing parent, and fails later with a bare KeyError.
        for file in self.snapshot.files:
            for parent in file.down:
                if parent not in self._files:
                    raise HistoryError(
                        f"revision {file.revision!r} follows {parent!r}, which no file declares",
                        track=self.track.name,
                        file=file.file,
                        line=line_of(file.file, "down_revision"),
                        remedy="add the missing file, or correct down_revision",
                    )
            for other in file.depends_on:
                if other not in self._files and other not in self._labels:
                    meant = [revision for revision in self._files if revision.startswith(other)]
                    raise HistoryError(
                        f"revision {file.revision!r} depends on {other!r}, which is no revision id or branch label",
                        track=self.track.name,
                        file=file.file,
                        line=line_of(file.file, "depends_on"),
                        remedy=f"write {meant[0]!r} in full"
                        if len(meant) == 1
                        else "add the file, or correct depends_on",
                    )

    def _downgrade(self, heads: Heads, goal: Heads) -> tuple[str, ...]:
        if not heads or (goal and goal[0] not in self.ancestors(heads)):
            return ()  # nothing of what is to be taken off was ever applied
        walk = self._map.iterate_revisions(heads, argument(goal), select_for_downgrade=True)
        return tuple(revision.revision for revision in walk if revision is not None)

    def _several_heads(self, heads: Sequence[str]) -> HistoryError:
        files = "; ".join(f"{head} in {Path(self._files[head].file).name}" for head in sorted(heads) if head in self)
        return self._error(
            f"'head' is ambiguous, there are {len(heads)} heads ({files})",
            'join them with `alembic merge heads -m "merge"`, or roll out to `heads` (all) or `<label>@head` (one)',
        )

    def _known(self) -> str:
        heads = ", ".join(self.heads) or "none: there are no revision files"
        return f"check the spelling, or deploy the build that has it; heads of this build: {heads}"

    def _error(self, message: str, remedy: str) -> HistoryError:
        return HistoryError(message, track=self.track.name, file=self.snapshot.folder, remedy=remedy)


def argument(goal: Heads) -> str | tuple[str, ...] | None:
    """A goal in the form that Alembic's walks take: None for base, text for one revision."""
    if len(goal) > 1:
        return goal
    return goal[0] if goal else None


def digest_over(contents: Contents) -> str:
    """SHA-256 over names and contents of files, wherever they lie."""
    return hashlib.sha256(repr(sorted(contents)).encode("utf-8", "surrogatepass")).hexdigest()


def contents_of(track: Track, folder: str, version_folders: tuple[str, ...], recursive: bool) -> Contents:
    """Env.py, all revision files and the configuration: their names, below the script folder or below their own, and
    digests."""
    files = ((_named(file, folder, version_folders), file) for file in python_files(folder, version_folders, recursive))
    return (*((name, _digest_of(file)) for name, file in files), *configured.contents_of(track))


def read_anew(track: Track, folder: str) -> Contents:
    """What of it each run of env.py reads from the disk, whoever has loaded the revisions before."""
    return (("env.py", _digest_of(Path(folder, "env.py"))), *configured.contents_of(track))


def _digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def _named(file: Path, folder: str, version_folders: tuple[str, ...]) -> str:
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    own = next(Path(versions) for versions in version_folders if file.is_relative_to(versions))
    return (own.name / file.relative_to(own)).as_posix()


def python_files(folder: str, version_folders: tuple[str, ...], recursive: bool) -> Iterator[Path]:
    yield Path(folder, "env.py")
    for versions in version_folders:
        yield from sorted(Path(versions).glob("**/*.py" if recursive else "*.py"))


def _as_revision(file: RevisionFile) -> Revision:
    return Revision(file.revision, file.down or None, file.depends_on or None, file.labels or None)
