"""Turn what env.py or a revision raised into one error that speaks to the operator."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError

from orchestrator.errors import MigrationFailedError, TargetError
from orchestrator.history import rowvalues
from orchestrator.plan import rowless

_LONGEST = 1000


def translate(exc: BaseException, revision: str | None, folder: str, secrets: tuple[str, ...] = ()) -> TargetError:
    """The TargetError for `exc`, raised while `revision` ran (None: in env.py itself).

    It tells no values of rows: of what a backfill's function raises only type, file and line. See `plan.rowless`.
    """
    if isinstance(exc, TargetError):
        exc.revision = exc.revision or revision
        return exc
    cause = target_error_within(exc)
    if cause is not None:
        return cause
    where = f"revision {revision}" if revision else "env.py"
    in_backfill = rowvalues.is_in_backfill(exc)
    if isinstance(exc, DBAPIError):
        code = sqlstate(exc)
        raised = in_backfill and exc.orig is not None and rowvalues.is_raised(exc.orig, code)
        said = rowvalues.RAISED if raised else rowless.left_out(str(exc.orig), code, in_backfill)
        return MigrationFailedError(
            f"{where}: {_first_lines(redact(said, secrets))}",
            kind="connection" if _is_connecting(exc) else None,
            code=code or ("08006" if exc.connection_invalidated else None),
            revision=revision,
            statement=redact(exc.statement or "", secrets) or None,
            remedy=_remedy(revision),
        )
    said = "" if in_backfill else f": {_first_lines(redact(str(exc), secrets))}"
    text = f"{where}: {type(exc).__name__}{said}{_place(exc, Path(folder))}"
    kind = type(exc).__name__ if not isinstance(exc, OSError) else "connection"
    return MigrationFailedError(redact(text, secrets), kind=kind, revision=revision, remedy=_remedy(revision))


def sqlstate(exc: DBAPIError) -> str | None:
    """The SQLSTATE that the driver gave; drivers and adapters name and nest it differently. Of MySQL, whose SQLSTATEs
    tell little, the error number: no number has the five characters of an SQLSTATE that could be meant instead."""
    seen: BaseException | None = exc.orig
    while seen is not None:
        if (number := _errno(seen)) is not None:
            return str(number)
        for name in ("sqlstate", "pgcode"):
            code = getattr(seen, name, None)
            if isinstance(code, str):
                return code
        seen = seen.__cause__
    return None


def _errno(exc: BaseException) -> int | None:
    """MySQL's error number, which its drivers give as the first argument; so does the operating system."""
    number = exc.args[0] if exc.args and not isinstance(exc, OSError) else None
    return number if isinstance(number, int) and number > 0 else None


def _is_connecting(exc: DBAPIError) -> bool:
    """Whether it tells of the network rather than of a statement: no server spoke, for it would give an SQLSTATE."""
    if sqlstate(exc) is not None:
        return False
    seen: BaseException | None = exc.orig
    while seen is not None:
        if isinstance(seen, OSError):
            return True
        seen = seen.__cause__
    # psycopg, where no connection came about; with a statement, it is SQLite that says no more than this.
    kinds = {cls.__name__ for cls in type(exc.orig).__mro__}
    return exc.statement is None and not exc.connection_invalidated and "OperationalError" in kinds


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without the secrets: as they are, as they stand in URLs and in SQL, and where an excerpt cuts them off.

    >>> redact("LINE 1: ...ost', 'hunt'er2') FROM 'postgresql://u:hunt''er...", ("hunt'er2",))
    "LINE 1: ...ost', '***') FROM 'postgresql://u:***..."
    """
    for form in sorted(set(_forms(secrets)), key=len, reverse=True):
        text = text.replace(form, "***")
        for length in range(len(form) - 1, SHORTEST_PART - 1, -1):
            text = text.replace(f"{form[:length]}...", "***...").replace(f"...{form[-length:]}", "...***")
    return text


# What a server's excerpt may show of a secret at its cut end: less than this tells nothing.
SHORTEST_PART = 4
# How SQL, and drivers with % for parameters, write a character twice.
_DOUBLED = (("",), ("'",), ("%",), ("\\",), ("'", "%"), ("'", "\\"), ("'", "%", "\\"))


def _forms(secrets: tuple[str, ...]) -> Iterator[str]:
    for secret in filter(None, secrets):
        for written in (secret, quote(secret, safe=""), quote(secret, safe=" +")):
            for characters in _DOUBLED:
                form = written
                for character in filter(None, characters):
                    form = form.replace(character, character * 2)
                yield form


def target_error_within(exc: BaseException) -> TargetError | None:
    """Our own refusal, wrapped by SQLAlchemy or by env.py's `raise … from`."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, TargetError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _first_lines(text: str, lines: int = 4) -> str:
    return "\n".join(text.strip().splitlines()[:lines])[:_LONGEST]


def _place(exc: BaseException, folder: Path) -> str:
    """The innermost line of the project's own scripts in the traceback."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if str(folder) in frame.filename]
    if isinstance(exc, SyntaxError) and exc.filename:
        return f" [{exc.filename}:{exc.lineno}]"
    return f" [{frames[-1].filename}:{frames[-1].lineno}]" if frames else ""


def _remedy(revision: str | None) -> str:
    if revision is None:
        return "correct env.py or its surroundings, then retry"
    return "correct the revision or the tenant's data, then retry; see the version table for what is applied"
