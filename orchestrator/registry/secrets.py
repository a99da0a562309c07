"""References to what the registry file should not hold itself.

`${VAR}`, `${VAR:-default}` (taken when VAR is unset or empty) and `${file:/run/secrets/x}` (its last line ending is
dropped; a relative path starts at the registry file's folder). `$${` is a plain `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_MARK = re.compile(r"\$\$\{|\$\{(?P<inside>[^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_FILE = "file:"
_FORMS = "write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a plain ${"


class Complaint(ValueError):
    """What is wrong with one value of the file; never holds a secret."""

    def __init__(self, *messages: str) -> None:
        self.messages = messages
        super().__init__("; ".join(messages))


@dataclass(frozen=True, slots=True)
class Reference:
    """What stands between the braces. Kept out of the repr: a default may be a secret."""

    inside: str = field(repr=False)

    @property
    def path(self) -> str | None:
        """The file that is meant, as written; None for an environment variable."""
        if _VARIABLE.fullmatch(self.inside) or not self.inside.startswith(_FILE):
            return None
        return self.inside.removeprefix(_FILE)


def pieces(text: str) -> Iterator[str | Reference]:
    """Cut `text` into plain parts, escapes undone, and references. Raises Complaint for a `${` that is never closed."""
    end = 0
    for mark in _MARK.finditer(text):
        if mark.start() > end:
            yield text[end : mark.start()]
        end = mark.end()
        if mark["inside"] is not None:
            yield Reference(mark["inside"])
        elif mark[0] == "$${":
            yield "${"
        else:
            raise Complaint(f"a `${{` is not closed: {_FORMS}")
    if end < len(text):
        yield text[end:]


def plain(text: str) -> str:
    """`text` with escapes undone. Raises Complaint when it holds a reference."""
    if "${" not in text:
        return text
    parts = list(pieces(text))
    if any(isinstance(part, Reference) for part in parts):
        raise Complaint(
            "references work in `url`, `token`, `secret`, `password`, `http`, `webhook`, `slack`, `environment`, "
            "`script_location` and `config` only; $${ is a plain ${"
        )
    return "".join(map(str, parts))


def files(text: str, folder: Path) -> frozenset[Path]:
    """Return the secret files that `text`, a whole registry file, refers to."""
    references = (Reference(mark["inside"]) for mark in _MARK.finditer(text) if mark["inside"] is not None)
    return frozenset(folder / reference.path for reference in references if reference.path)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Where references are looked up."""

    environ: Mapping[str, str] = field(repr=False)
    folder: Path

    def resolve(self, reference: Reference) -> str:
        """Return what `reference` stands for. Raises Complaint, naming the variable or file and nothing else."""
        if (path := reference.path) is not None:
            return self._content(path)
        variable = _VARIABLE.fullmatch(reference.inside)
        if variable is None:
            raise Complaint(f"this reference cannot be read: {_FORMS}")
        value, default = self.environ.get(variable["name"]), variable["default"]
        if default is not None:
            return value or default
        if value is None:
            raise Complaint(f"the environment variable {variable['name']} is not set: set it, or give a :-default")
        return value

    def expand(self, text: str, quote: Callable[[str], str] = str) -> str:
        """Return `text` with each reference replaced by its value, passed through `quote`.

        Raises Complaint with one message per reference that cannot be resolved.
        """
        return "".join(part if isinstance(part, str) else quote(value) for part, value in self.resolved(text))

    def resolved(self, text: str) -> list[tuple[str | Reference, str]]:
        """Return the pieces of `text`, each with its value. Raises Complaint as `expand` does."""
        parts: list[tuple[str | Reference, str]] = []
        messages: list[str] = []
        for part in pieces(text):
            try:
                parts.append((part, part if isinstance(part, str) else self.resolve(part)))
            except Complaint as exc:
                messages += exc.messages
        if messages:
            raise Complaint(*messages)
        return parts

    def _content(self, path: str) -> str:
        try:
            file = self.folder / path
            if file.exists() and not file.is_file():
                raise Complaint(f"the secret file {path!r} is not a file")
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise Complaint(f"the secret file {path!r} is not UTF-8 text") from None
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "not a file name"
            raise Complaint(f"the secret file {path!r} cannot be read ({reason}): mount it, or mend the path") from None
        return text.removesuffix("\n").removesuffix("\r")
