from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from orchestrator.registry import addresses
from orchestrator.registry.secrets import Complaint, Secrets

AWKWARD = "a@b/c%40d#e:f?g[h]{i}${j}"
HERE = Path("/srv")


def parsed(written: str, **environ: str) -> URL:
    return addresses.parse(written, Secrets(environ, HERE))


def without_blanks(url: URL) -> URL:
    return url._replace(host=url.host or None, database=url.database or None)


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://u:p@h:5432",
        "postgresql+asyncpg://u:p%40%2F%25@h",
        "postgresql://h",
        "postgresql://u@h",
        "postgresql://u:@h",
        "postgresql://[::1]:5432",
        "postgresql://u:p@h?sslmode=require&application_name=a%20b",
        "postgresql://u:p@?host=one:5432&host=two:5433",
        "postgresql://u@/?host=/var/run/postgresql",
        "mysql://u:p@h:3306",
        "mariadb+asyncmy://u:p%40@h?ssl_ca=/etc/ca.pem",
        "sqlite:///relative/folder",
        "sqlite:////absolute/folder",
        "sqlite+aiosqlite:///x",
    ],
)
def test_urls_are_read_as_sqlalchemy_reads_them(written: str) -> None:
    expected = make_url(written)
    for url in (parsed(written), parsed("${URL}", URL=written), parsed("${URL}", URL=f" {written}\n")):
        assert without_blanks(url) == without_blanks(expected)


@pytest.mark.parametrize("database", ["", "/", "/postgres"])
def test_the_maintenance_database_may_be_named(database: str) -> None:
    assert parsed(f"postgresql://h{database}").database is None


def test_a_password_by_reference_is_taken_raw() -> None:
    url = parsed("postgresql://u:${P}@h:1", P=AWKWARD)
    assert (url.username, url.password, url.host, url.port) == ("u", AWKWARD, "h", 1)
    assert make_url(url.render_as_string(hide_password=False)).password == AWKWARD


def test_every_part_may_be_a_reference() -> None:
    url = parsed(
        "postgresql://${U}:x${P}y@${H}:${N}/${D}?sslmode=${S}",
        U="u@v", P="p%20", H="::1", N="5433", D="postgres", S="a&b=c",
    )  # fmt: skip
    assert url == URL.create(
        "postgresql", username="u@v", password="xp%20y", host="::1", port=5433, query={"sslmode": "a&b=c"}
    )


def test_a_whole_url_by_reference_is_decoded_as_a_url() -> None:
    assert parsed("${URL}", URL="postgresql://u:p%40%24%7BX%7D@h").password == "p@${X}"


def test_an_at_sign_in_a_written_password_is_understood() -> None:
    assert parsed("postgresql://u:p@ss@h").password == "p@ss"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("postgresql://u:${P}@${H}", "characters that no host has"),
        ("postgresql://h:${P}", "port must be a number"),
        ("postgresql://h/${P}", "names a database"),
        ("postgresql://[::1", "host cannot be read"),
        ("postgresql://h:٣", "port must be a number"),
        ("postgresql://\ue0000\ue001", "characters that no URL has"),
        ("sqlite:///${P}:memory:", "is a folder"),
        ("sqlite:///", "is a folder"),
        ("${EMPTY}", "not a URL"),
        ("", "not a URL"),
    ],
)
def test_what_cannot_be_a_shard_is_refused(written: str, message: str) -> None:
    with pytest.raises(Complaint, match=message):
        parsed(written, P="secret", H="h:1", EMPTY="")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://h", "postgresql://a:b@H.:5432/postgres", True),
        ("postgresql://h:1", "postgresql://h:2", False),
        ("postgresql://[::1]:1", "postgresql://[::1]:2", False),
        ("postgresql://?host=a:1&host=b:2", "postgresql://b:2", True),
        ("postgresql://?host=a,b", "postgresql://b", True),
        ("sqlite:///x", "sqlite:////srv/y/../x/", True),
        ("sqlite:///x", "sqlite:////x", False),
    ],
)
def test_one_server_under_two_names_is_recognised(one: str, other: str, same: bool) -> None:
    shared = addresses.servers(parsed(one), HERE) & addresses.servers(parsed(other), HERE)
    assert bool(shared) is same
