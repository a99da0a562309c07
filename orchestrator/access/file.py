"""Tokens that a file names, by their hashes: for whoever keeps a daemon's configuration in files.

    tokens:
      - id: k3vq7c2m5xw4a6ye          # as `orchestrator token create --entry` prints it
        name: ci
        role: operator
        hash: sha256:9f86d081884c7d65…
        expires_at: 2027-01-31T00:00:00Z      # optional; in UTC where it names no zone

They count beside those of the store, under the same rules. Taking an entry out revokes its token.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog
import yaml

from orchestrator.access import tokens
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Token
from orchestrator.errors import ConfigurationError
from orchestrator.events import timestamp

if TYPE_CHECKING:
    from yaml import BaseLoader as _Loader
else:
    _Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

LARGEST_BYTES = 1024 * 1024
_DEEPEST = 10
_KEYS = {"id", "name", "role", "hash", "expires_at"}
_REMEDY = "write entries as `orchestrator token create --entry` prints them"

log = structlog.get_logger(__name__)

# What tells that a file is another one than before.
Mark = tuple[int, int, int] | None


class TokensFile:
    """The file's tokens, read again when it changes.

    One with mistakes is not believed: the tokens of the last good one count, and the log says so. Where there is no
    file any more, none of its tokens counts.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path
        self._tokens: Mapping[str, Token] = {}
        self._mark: Mark = None

        self._lock = anyio.Lock()

    def load(self) -> None:
        """Read it for the first time. Raises ConfigurationError."""
        self._mark = _seen(self.path)
        self._tokens = _by_id(read(self.path))

    @property
    def known(self) -> Mapping[str, Token]:
        """By id, as they were when it was last looked at."""
        return self._tokens

    async def current(self) -> Mapping[str, Token]:
        """By id, of the file as it is now. It is looked at in a thread, one at a time: a disk may be slow."""
        async with self._lock:
            look = partial(_looked, self.path, self._mark)
            if (found := await anyio.to_thread.run_sync(look, abandon_on_cancel=True)) is not None:
                self._take(*found)
        return self._tokens

    def _take(self, mark: Mark, found: Mapping[str, Token] | ConfigurationError) -> None:
        self._mark = mark
        if isinstance(found, ConfigurationError):
            log.error("tokens_file_refused", message=found.message, remedy=found.remedy, count=len(self._tokens))
        else:
            self._tokens = found
            if mark is None:
                log.warning("tokens_file_gone", file=str(self.path), remedy="no token of it counts any more")
            else:
                log.info("tokens_file_read", file=str(self.path), count=len(found))


def _looked(path: Path, before: Mark) -> tuple[Mark, Mapping[str, Token] | ConfigurationError] | None:
    """What the file holds; None where it is the one that was there before."""
    mark = _seen(path)
    if mark == before:
        return None
    try:
        return mark, {} if mark is None else _by_id(read(path))
    except ConfigurationError as exc:
        return mark, exc


def _by_id(found: Sequence[Token]) -> Mapping[str, Token]:
    return {token.id: token for token in found}


def _seen(path: Path) -> Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> Sequence[Token]:
    """Raises ConfigurationError, with every mistake and never with a hash."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise ConfigurationError(
            f"tokens file {path} cannot be read: {reason}", remedy="mend it, or unset ORCHESTRATOR_TOKENS_FILE"
        ) from exc
    found, mistakes = parse(content)
    if mistakes:
        raise ConfigurationError(f"tokens file {path}: {'; '.join(mistakes)}", remedy=_REMEDY)
    return found


def parse(content: bytes) -> tuple[Sequence[Token], Sequence[str]]:
    """The tokens of a file, and what is wrong with it.

    >>> parse(b"tokens: []")
    ([], [])
    """
    if len(content) > LARGEST_BYTES:
        return [], [f"it has more than {LARGEST_BYTES} bytes"]
    try:
        document = _document(content)
    except (yaml.YAMLError, ValueError) as exc:
        mark = getattr(exc, "problem_mark", None)
        return [], [f"line {mark.line + 1} cannot be read as YAML" if mark else "it cannot be read as YAML"]
    entries = document.get("tokens") if isinstance(document, dict) else None
    if not isinstance(entries, list) or set(document) != {"tokens"}:
        return [], ["it must hold one list, `tokens`"]
    found: list[Token] = []
    mistakes: list[str] = []
    for number, entry in enumerate(entries, 1):
        problems = _problems(entry)
        mistakes += [f"entry {number}: {problem}" for problem in problems]
        if not problems:
            found.append(_token(entry))
    times = Counter(token.id for token in found)
    mistakes += [f"id {twice} stands twice" for twice in sorted(one for one, n in times.items() if n > 1)]
    return found, mistakes


def entry(token: Token) -> str:
    """The entry that stands for a token, as a line of the file's list: in JSON, which YAML is as well."""
    values = {"id": token.id, "name": token.name, "role": str(token.role), "hash": token.hash}
    if token.expires_at is not None:
        values["expires_at"] = timestamp(token.expires_at)
    return f"- {json.dumps(values)}"


def _document(content: bytes) -> Any:
    """Every scalar as the text that it is. Nesting is counted first: the library's own recursion has no bound."""
    depth = 0
    for event in yaml.parse(content, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
    return yaml.load(content, Loader=_Loader)


def _problems(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["it must have id, name, role and hash"]
    texts = {name: entry[name] if isinstance(entry.get(name), str) else "" for name in _KEYS}
    problems = [f"there is no key {name!r}" for name in sorted(map(str, set(entry) - _KEYS))]
    if not tokens.ID.fullmatch(texts["id"]):
        problems.append("`id` must be the 16 letters and digits after orc_")
    if not tokens.NAME.fullmatch(texts["name"]):
        problems.append(f"`name`: {tokens.NAME_RULE}")
    if texts["role"] not in set(Role):
        problems.append(f"`role` must be one of {', '.join(Role)}")
    if not tokens.HASH.fullmatch(texts["hash"]):
        problems.append("`hash` must be sha256: and 64 hexadecimal digits")
    if "expires_at" in entry and _moment(entry["expires_at"]) is None:
        problems.append("`expires_at` must be a time such as 2027-01-31T00:00:00Z")
    return problems


def _token(entry: Mapping[str, str]) -> Token:
    expires_at = _moment(entry["expires_at"]) if "expires_at" in entry else None
    return Token(entry["id"], entry["name"], Role(entry["role"]), entry["hash"], expires_at, source="file")


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):  # in UTC, the first and last days of the calendar may be outside it
        return None
