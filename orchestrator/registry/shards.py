"""From the file's `shards` to values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy.engine import URL

from orchestrator.registry import addresses
from orchestrator.registry.forms import ShardForm
from orchestrator.registry.model import MYSQL_DIALECTS, Shard
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Complaint, Secrets


def build(report: Report, forms: Mapping[str, ShardForm], secrets: Secrets) -> dict[str, Shard]:
    """Return the shards whose entries are right; the report gets what is wrong with the others."""
    shards: dict[str, Shard] = {}
    for name, form in forms.items():
        url = _url(report, name, "url", form.url, secrets)
        direct = _url(report, name, "direct_url", form.direct_url, secrets) if form.direct_url is not None else None
        if url is None or (form.direct_url is not None and direct is None):
            continue
        if direct is not None and (wrong := _cannot_be_direct(url, direct)):
            report.at(("shards", name, "direct_url"), wrong)
            continue
        shards[name] = Shard(
            name,
            url,
            form.max_concurrent,
            dict(form.labels),
            max_per_database=form.max_per_database,
            reserve_connections=form.reserve_connections,
            direct_url=direct,
        )
    _refuse_one_server_twice(report, shards, secrets)
    return shards


def _url(report: Report, name: str, key: str, written: str, secrets: Secrets) -> URL | None:
    try:
        return addresses.parse(written, secrets)
    except Complaint as exc:
        report.at(("shards", name, key), *exc.messages)
        return None


def _cannot_be_direct(url: URL, direct: URL) -> str | None:
    """Why the one cannot be another way to where the other leads."""
    if url.get_backend_name() == "sqlite":
        return "an SQLite shard is a folder: it has no `direct_url`"
    kinds = {url.get_backend_name(), direct.get_backend_name()}
    if len(kinds) > 1 and not kinds <= set(MYSQL_DIALECTS):
        return f"`url` is for {url.get_backend_name()}: `direct_url` must lead to the same server"
    return None


def _refuse_one_server_twice(report: Report, shards: Mapping[str, Shard], secrets: Secrets) -> None:
    """A pooler may lead to several servers: where a shard has a `direct_url`, that one tells which server it is."""
    seen: dict[str, str] = {}
    poolers = {server: name for name, shard in shards.items() for server in _poolers(shard, secrets)}
    for name, shard in shards.items():
        key = "url" if shard.direct_url is None else "direct_url"
        servers = addresses.servers(shard.migration_url, secrets.folder)
        if others := sorted({seen[server] for server in servers if server in seen}):
            first = others[0]
            report.at(
                ("shards", name, key),
                f"the shards {first!r} (line {report.line(('shards', first, 'url'))}) and {name!r} are one server, "
                "whose limit must not be counted twice: make them one shard",
            )
        elif others := sorted({poolers[server] for server in servers if server in poolers}):
            first = others[0]
            report.at(
                ("shards", name, key),
                f"this is what stands before the server of shard {first!r} (line "
                f"{report.line(('shards', first, 'url'))}), as its `direct_url` tells: make them one shard, or give "
                f"{name!r} a `direct_url` to another server",
            )
        for server in servers:
            seen.setdefault(server, name)


def _poolers(shard: Shard, secrets: Secrets) -> Iterator[str]:
    """What the shard's `url` leads to, where the server itself is elsewhere."""
    if shard.direct_url is not None:
        server = addresses.servers(shard.direct_url, secrets.folder)
        yield from addresses.servers(shard.url, secrets.folder) - server
