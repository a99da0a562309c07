"""Dialects that are set up without a server, in each SQLAlchemy that we promise to work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.postgresql import psycopg

from orchestrator.history import dialects

PSYCOPG: Callable[..., Any] = psycopg.dialect


def test_a_copy_for_literals_doubles_no_percent_sign_and_leaves_the_engines_dialect_as_it_is() -> None:
    engines = PSYCOPG()
    copy = dialects.for_literals(engines)
    asked: Any = sa.select(sa.column("a % b")).where(sa.column("c") == "d")
    assert str(asked.compile(dialect=copy)) == 'SELECT "a % b" \nWHERE c = :c_1::VARCHAR'
    assert str(asked.compile(dialect=engines)) == 'SELECT "a %% b" \nWHERE c = %(c_1)s::VARCHAR'


def test_one_that_has_met_a_server_knows_what_it_is_and_is_of_its_own_class_still() -> None:
    made: Callable[..., Any] = mysql.dialect
    dialect = made()
    kind = type(dialect)
    dialects.meet(dialect, "10.11.6-MariaDB")
    assert (dialect.server_version_info[:2], dialect.is_mariadb, type(dialect)) == ((10, 11), True, kind)
