"""The URL of a shard: read, filled with secrets, and told apart from others.

A URL is cut into its parts first and filled afterwards, so that a password given by reference is taken raw, whatever
characters it holds. Only a URL that is one reference as a whole is filled first and percent-decoded, as URLs are.
"""

from __future__ import annotations

import difflib
import os.path
import re
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from urllib.parse import parse_qs, unquote

from sqlalchemy.engine import URL

from orchestrator.registry.secrets import Complaint, Reference, Secrets

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][\w.-]*(?:\+\w+)?)://(?P<authority>[^/?#]*)(?:/(?P<path>[^?#]*))?(?:\?(?P<query>[^#]*))?(?P<rest>#.*)?",
    re.DOTALL,
)
_SERVER = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL)
_HOST = re.compile(r"[\w.-]*")
_TOKEN = re.compile("\ue000(\\d+)\ue001")
_ENCODE = "a password with @ / : # ? or % must be percent-encoded, or come from ${VAR}, which is taken as it is"
DIALECTS = frozenset({"postgresql", "mysql", "mariadb", "sqlite"})
_DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
# What a MySQL driver would take from there, past what the registry knows of the shard.
_ELSEWHERE = frozenset({"host", "port", "user", "db", "database", "unix_socket", "read_default_file", "passwd"})
_WRITE_MYSQL = "write mysql://user:${PASSWORD}@host:3306, and let the tenants name their databases"

Fill = Callable[[str], str]


def parse(written: str, secrets: Secrets) -> URL:
    """Read the URL of a shard. Raises Complaint, whose messages hold no part of it but its dialect."""
    parts = secrets.resolved(written)
    if len(parts) == 1 and isinstance(parts[0][0], Reference):
        return _parse(parts[0][1].strip(), str, quote_dialect=False)
    if any(_TOKEN.search(part) for part, _ in parts if isinstance(part, str)):
        raise Complaint("the URL holds characters that no URL has")
    values = [value for part, value in parts if isinstance(part, Reference)]
    numbers = iter(range(len(values)))
    text = "".join(f"\ue000{next(numbers)}\ue001" if isinstance(part, Reference) else part for part, _ in parts)

    def fill(token_text: str) -> str:
        return _TOKEN.sub(lambda token: values[int(token[1])], token_text)

    return _parse(text, fill, quote_dialect=True)


def servers(url: URL, folder: Path) -> frozenset[str]:
    """Return what the shard is, apart from its credentials: host:port, or the folder for SQLite."""
    if url.get_backend_name() == "sqlite":
        return frozenset({os.path.normpath(folder / (url.database or ""))})
    port = url.port or _DEFAULT_PORTS[url.get_backend_name()]
    if url.host:
        return frozenset({f"{url.host.lower().rstrip('.')}:{port}"})
    return frozenset(host if _has_port(host) else f"{host}:{port}" for host in _listed(url.query["host"]))


def _parse(text: str, fill: Fill, *, quote_dialect: bool) -> URL:
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise Complaint(
            "this is not a URL: write postgresql://user:${PASSWORD}@host:5432, mysql://user:${PASSWORD}@host:3306 or "
            "sqlite:///folder"
        )
    dialect = shape["scheme"].lower().partition("+")[0]
    _check_dialect(dialect, quote_dialect)
    if shape["rest"] is not None:
        raise Complaint(f"the URL holds a plain #; {_ENCODE}")
    return _folder(shape, fill) if dialect == "sqlite" else _server(shape, fill)


def _check_dialect(dialect: str, quote: bool) -> None:
    if dialect in DIALECTS:
        return
    if dialect == "postgres":
        raise Complaint("use postgresql:// instead of postgres://")
    shown = f" {dialect!r}" if quote else ""
    close = difflib.get_close_matches(dialect, DIALECTS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(DIALECTS))}"
    raise Complaint(f"the URL has an unknown dialect{shown}; {hint}")


def _folder(shape: re.Match[str], fill: Fill) -> URL:
    folder = fill(shape["path"] or "")
    if shape["authority"] or not folder or ":memory:" in folder or "\0" in folder:
        raise Complaint("an SQLite shard is a folder: write sqlite:///relative/folder or sqlite:////absolute/folder")
    return URL.create(shape["scheme"].lower(), database=folder, query=_query(shape, fill))


def _server(shape: re.Match[str], fill: Fill) -> URL:
    dialect = shape["scheme"].lower().partition("+")[0]
    if fill(unquote(shape["path"] or "")) not in ("", "postgres" if dialect == "postgresql" else ""):
        raise Complaint(f"the URL names a database: tenants name theirs, so end it after the host; {_ENCODE}")
    credentials, at, server = shape["authority"].rpartition("@")
    user, colon, password = credentials.partition(":")
    query = _query(shape, fill)
    host, port = _host_and_port(server, fill)
    if not host and not (dialect == "postgresql" and any(query.get("host", ()))):
        raise Complaint("the URL has no host")
    if dialect != "postgresql" and (unknown := sorted(query.keys() & _ELSEWHERE)):
        raise Complaint(f"`{unknown[0]}` does not belong after the ?: {_WRITE_MYSQL}")
    return URL.create(
        shape["scheme"].lower(),
        username=fill(unquote(user)) if at else None,
        password=fill(unquote(password)) if colon else None,
        host=host or None,
        port=port,
        query=query,
    )


def _host_and_port(server: str, fill: Fill) -> tuple[str, int | None]:
    match = _SERVER.fullmatch(server)
    if match is None:
        raise Complaint(f"the URL's host cannot be read; {_ENCODE}")
    host = fill(match["ipv6"] or match["host"] or "")
    if not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise Complaint(f"the URL's host has characters that no host has; {_ENCODE}")
    return host, _port(fill(match["port"] or ""))


def _port(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise Complaint(f"the URL's port must be a number from 1 to 65535; {_ENCODE}")
    return int(text)


def _query(shape: re.Match[str], fill: Fill) -> dict[str, str | tuple[str, ...]]:
    query = parse_qs(shape["query"] or "", keep_blank_values=True)
    if "password" in query:
        raise Complaint("the password belongs before the host: user:${PASSWORD}@host")
    filled = {fill(key): tuple(map(fill, values)) for key, values in query.items()}
    return {key: values[0] if len(values) == 1 else values for key, values in filled.items()}


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _listed(hosts: str | tuple[str, ...]) -> list[str]:
    values = (hosts,) if isinstance(hosts, str) else hosts
    return [host for value in values for host in value.split(",")]


def _has_port(host: str) -> bool:
    return re.search(r"[^:]:\d+$", host) is not None
