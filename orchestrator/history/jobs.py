"""What the daemon asks of its worker processes, and what they say back. All of it is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.errors import OrchestratorError
from orchestrator.plan.recorded import Recording
from orchestrator.plan.sent import Lines
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Track
from orchestrator.sessions import SessionRules

# Reading a history, loading it, or rendering a plan takes no longer: `seconds` of a job.
LONGEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class MigrateJob:
    """One target's online migration, along the history of this digest, which covers these `modules`. `url` and
    `environment` hold secrets: never shown. `observed`: tell what env.py does that compiled SQL would not. `paced`: ask
    before batches of a backfill. `traced`: tell which statements were sent, and how long each took. `schema`: asks
    for the schema in lines, where what is `observed` is recorded."""

    track: Track
    digest: str
    tenant: str
    plan: Plan
    version_table: str
    version_table_schema: str | None
    rules: SessionRules
    url: str = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    observed: bool = False
    modules: tuple[str, ...] = ()
    paced: bool = False
    traced: bool = False
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What compiled SQL would not do or have: `state` of env.py's session, and `remarks` on what it does besides; and
    what each revision has sent, where that can be recorded at all; `lines`: digests of what was sent."""

    state: Mapping[str, str]
    remarks: tuple[str, ...]
    recording: Recording = field(default_factory=dict)
    lines: Lines = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ReadJob:
    """Read a track's revision files, under its environment variables, and see what env.py does with a URL that leads
    nowhere. `urls` are that URL for a synchronous env.py, which `environment` holds, and for one that is not."""

    track: Track
    urls: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = LONGEST_SECONDS


@dataclass(frozen=True, slots=True)
class CompileJob:
    """Render a plan to SQL, as for one tenant. Nothing connects: `url` only says which kind of database it is for, and
    holds a secret where the track's env.py reads its URL from `environment`. `server`: what the server calls its
    version; None: the SQL is only looked at."""

    track: Track
    digest: str
    tenant: str
    plan: Plan
    dialect: str
    version_table: str
    version_table_schema: str | None
    url: str = field(repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    modules: tuple[str, ...] = ()
    server: str | None = None
    seconds: float = LONGEST_SECONDS


@dataclass(frozen=True, slots=True)
class HostJob:
    """Read a track's revision files, which must be those of the digest, and stay to migrate many targets."""

    track: Track
    digest: str
    modules: tuple[str, ...] = ()
    seconds: float = LONGEST_SECONDS


Job = MigrateJob | ReadJob | CompileJob | HostJob
Kind = Literal["backend", "steps", "observed", "lasting", "batch", "traced", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker says: `backend` (id), `steps` (revision, seconds), `observed`, `lasting` (revision; it waits until
    it hears that this is written down), `batch` (`Report`; it waits for the `Answer`), `traced` (`Traced`), `done`
    (result), `failed` (class, fields)."""

    kind: Kind
    value: Any


def packed(exc: OrchestratorError) -> tuple[type[OrchestratorError], dict[str, Any]]:
    """An error in a form that survives pickling: constructors differ from class to class."""
    return type(exc), {**vars(exc), "args": exc.args}


def unpacked(cls: type[OrchestratorError], fields: dict[str, Any]) -> OrchestratorError:
    exc = cls.__new__(cls)
    exc.args = fields.pop("args")
    vars(exc).update(fields)
    return exc
