"""Questions to a history: goals, steps, and mistakes in its files with the place to look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import HistoryError
from orchestrator.history import configured, scripts
from orchestrator.history.config import make
from orchestrator.history.drivers import drivername, is_async
from orchestrator.history.failures import redact, translate
from orchestrator.history.revisions import History
from orchestrator.plan.steps import Planner
from orchestrator.registry.model import Track
from tests import environments


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path)
    environments.add_tables(tmp_path, ["one", "two", "three"])
    return tmp_path


def _history(project: Path) -> History:
    snapshot, _ = scripts.read(Track("app", config=project / "alembic.ini"))
    return History(Track("app", config=project / "alembic.ini"), snapshot)


def test_goals_are_resolved_to_ids(project: Path) -> None:
    history = _history(project)
    assert history.heads == ("three",)
    assert [history.resolve(goal) for goal in ("head", "heads", "two")] == [("three",), ("three",), ("two",)]
    assert history.resolve("base", "downgrade") == ()


@pytest.mark.parametrize(
    ("goal", "message"), [("nope", "no revision 'nope'"), ("nope+1", "no revision"), ("base", "downgrade")]
)
def test_goals_that_cannot_be_are_refused_with_a_remedy(project: Path, goal: str, message: str) -> None:
    with pytest.raises(HistoryError, match=message) as refused:
        _history(project).resolve(goal)
    assert refused.value.remedy or "downgrade" in str(refused.value)


@pytest.mark.parametrize(
    ("heads", "goal", "direction", "steps"),
    [
        (None, ("three",), "upgrade", ("one", "two", "three")),
        (("two",), ("three",), "upgrade", ("three",)),
        (("three",), ("three",), "upgrade", ()),
        (("three",), ("two",), "upgrade", ()),
        (("three",), ("one",), "downgrade", ("three", "two")),
        (("three",), (), "downgrade", ("three", "two", "one")),
        (("one",), ("two",), "downgrade", ()),
        (None, (), "downgrade", ()),
    ],
)
def test_steps_lead_from_heads_to_goal(
    project: Path, heads: tuple[str, ...] | None, goal: tuple[str, ...], direction: str, steps: tuple[str, ...]
) -> None:
    planner = Planner(_history(project), goal, direction)  # type: ignore[arg-type]
    assert planner.plan(heads).steps == steps


def test_a_target_at_an_unknown_revision_is_ahead_and_has_no_steps(project: Path) -> None:
    plan = Planner(_history(project), ("three",)).plan(("future",))
    assert (plan.state, plan.steps, plan.unknown) == ("ahead", (), ("future",))


def test_labels_and_several_heads(project: Path) -> None:
    file = environments.add_revision(project, "report", "two", "pass")
    file.write_text(file.read_text().replace("branch_labels = None", 'branch_labels = "reporting"'))
    history = _history(project)
    assert history.resolve("heads") == ("report", "three")
    assert history.resolve("reporting@head") == ("report",)
    assert Planner(history, ("report", "three")).plan(("two",)).steps in (("report", "three"), ("three", "report"))
    with pytest.raises(HistoryError, match="2 heads"):
        history.resolve("head")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("def upgrade(:\n", 1, "SyntaxError"),
        ("revision = 'x'\ndown_revision = 'three'\nimport no_such_module\n", 3, "no_such_module"),
        ("revision = 'x'\ndown_revision = 'three'\n1 / 0\n", 3, "ZeroDivisionError"),
        ("revision = 'x'\nraise KeyboardInterrupt\n", 2, "KeyboardInterrupt"),
        ("revision = 'x'\ndown_revision = 'a\0b'\n", 2, "null bytes"),
        ("import os\nrevision = 'x'\ndown_revision = 'gone'\ndef upgrade(): ...\n", 3, "follows 'gone'"),
        ("revision = 'x'\ndown_revision = 'three'\ndepends_on = 'y'\ndef upgrade(): ...\n", 3, "depends on 'y'"),
    ],
)
def test_a_file_that_does_not_load_is_named_with_its_line(project: Path, content: str, line: int, message: str) -> None:
    broken = project / "alembic" / "versions" / "broken.py"
    broken.write_text(content)
    with pytest.raises(HistoryError, match=message) as refused:
        _history(project)
    assert (refused.value.file, refused.value.line) == (str(broken), line)


def test_a_missing_parent_and_a_double_id_are_named(project: Path) -> None:
    orphan = environments.add_revision(project, "orphan", "gone", "pass")
    with pytest.raises(HistoryError, match="'orphan' follows 'gone'"):
        _history(project)
    orphan.write_text(orphan.read_text().replace("'orphan'", "'two'").replace("'gone'", "'one'"))
    with pytest.raises(HistoryError, match="'two' is declared twice"):
        _history(project)


def test_a_history_knows_when_its_files_changed(project: Path) -> None:
    history = _history(project)
    assert history.is_current()
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text() + "\n")
    assert not history.is_current()


def test_a_history_knows_when_a_link_leads_to_another_release(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    releases = tmp_path_factory.mktemp("releases")
    for name in ("first", "second"):
        shutil.copytree(project / "alembic", releases / name)
    env, current = releases / "second" / "env.py", releases / "current"
    env.write_text(env.read_text() + "\n")
    current.symlink_to("first")
    history = History(track := Track("app", script_location=current), scripts.read(track)[0])
    assert history.is_current()
    current.unlink()
    current.symlink_to("second")
    assert not history.is_current()


def test_a_history_knows_when_its_configuration_means_something_else(project: Path) -> None:
    history, file, more = _history(project), project / "alembic.ini", project / "more"
    text = file.read_text()
    for before, after, same in (
        ("[alembic]", "# a word\n[alembic]", True),
        ("sqlalchemy.url = driver://user:pass@localhost/dbname", "sqlalchemy.url = sqlite://", True),
        ("level = INFO", "level = DEBUG", True),
        ("[alembic]", f"[alembic]\nversion_locations = %(here)s/alembic/versions {more}", False),
        ("[alembic]", "[alembic]\nmine = 1", False),
        ("[alembic]", "[another]\nmine = 1\n[alembic]", False),
        ("[alembic]", "[alembic", False),
    ):
        assert before in text
        file.write_text(text.replace(before, after, 1))
        assert history.is_current() is same, after
    file.write_text(text)
    toml = project / "pyproject.toml"
    toml.write_text("[project]\nname = 'y'\n")
    assert history.is_current()
    toml.write_text("[tool.alembic]\nmine = 1\n")
    assert not history.is_current()


def test_a_toml_file_of_any_name_is_known_as_the_configuration(tmp_path: Path) -> None:
    track, digests = Track("app", config=tmp_path / "mine.toml"), set[str]()
    for text in ("[tool.alembic]\nmine = 1", "[tool.alembic]\nmine = 2"):
        (tmp_path / "mine.toml").write_text(text)
        [(name, digest)] = configured.contents_of(track)
        assert name == "mine.toml"
        digests.add(digest)
    assert len(digests) == 2


def test_an_empty_history_is_a_mistake_and_not_a_fleet_at_head(tmp_path: Path) -> None:
    environments.make_project(tmp_path)
    history = _history(tmp_path)
    assert history.heads == ()
    with pytest.raises(HistoryError, match=r"there are no revision files in .*versions") as refused:
        history.resolve("head")
    assert "version_locations" in str(refused.value.remedy)


def test_a_url_with_percent_signs_reaches_env_py_whole(project: Path) -> None:
    url = "postgresql://u:p%40ss%25@h/db"
    config = make(Track("app", config=project / "alembic.ini"), url=url, tenant="acme")
    assert config.get_main_option("sqlalchemy.url") == url
    assert config.cmd_opts is not None
    assert config.cmd_opts.x == ["tenant=acme"]


def test_a_section_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(HistoryError, match=r"\[other\]") as refused:
        make(Track("app", config=project / "alembic.ini", section="other"))
    assert "[alembic]" in str(refused.value.remedy)


@pytest.mark.parametrize(
    ("url", "asynchronous", "wanted", "expected"),
    [
        ("postgresql://h/d", False, None, "postgresql+psycopg"),
        ("postgresql://h/d", True, None, "postgresql+asyncpg"),
        ("postgresql+psycopg2://h/d", True, None, "postgresql+psycopg2"),
        ("postgresql://h/d", True, "psycopg", "postgresql+psycopg"),
        ("postgresql://h/d", True, "none", "postgresql"),
        ("mysql://h/d", False, None, "mysql+pymysql"),
        ("mysql://h/d", True, None, "mysql+asyncmy"),
        ("mariadb://h/d", False, None, "mariadb+pymysql"),
        ("mariadb://h/d", True, None, "mariadb+asyncmy"),
        ("mariadb+mysqldb://h/d", True, None, "mariadb+mysqldb"),
        ("sqlite:///x", True, None, "sqlite+aiosqlite"),
    ],
)
def test_the_driver_suits_env_py_unless_somebody_says_otherwise(
    url: str, asynchronous: bool, wanted: str | None, expected: str
) -> None:
    assert drivername(make_url(url), asynchronous, wanted) == expected


def test_an_async_env_py_is_recognised(tmp_path: Path) -> None:
    for template, expected in (("generic", False), ("async", True)):
        environments.make_project(tmp_path / template, template)  # type: ignore[arg-type]
        assert is_async(tmp_path / template / "alembic" / "env.py") is expected


def test_secrets_are_taken_out_in_every_form() -> None:
    text = "cannot connect to postgresql://u:p%40ss%2Fword@h/d with p@ss/word"
    assert redact(text, ("p@ss/word",)) == "cannot connect to postgresql://u:***@h/d with ***"


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("Huntersecret99x", "LINE 1: select nope, 'postgresql://mig:Huntersecret99..."),
        ("Huntersecret99x", "LINE 1: ...ersecret99x@h/d', nope"),
        ("Hunter'secret99", "select nope_fn('Hunter''secret99')"),
        ("Hunter%secret99", "CREATE USER MAPPING FOR x OPTIONS (password 'Hunter%%secret99')"),
        ("Hunter@secret99", "dblink('postgresql://mig:Hunter%%40secret99@127.0.0.1')"),
        ("Hunter\\secret99", "select E'Hunter\\\\secret99'"),
    ],
)
def test_a_secret_does_not_show_in_what_sql_and_drivers_make_of_it(secret: str, text: str) -> None:
    shown = redact(text, (secret,))
    assert "***" in shown
    assert "unter" not in shown
    assert "secret99" not in shown


def test_a_secret_that_is_cut_in_two_does_not_show() -> None:
    exc = translate(ValueError("x" * 990 + "hunter2hunter2"), None, "/nowhere", ("hunter2hunter2",))
    assert "hunter" not in exc.message


def test_a_server_that_cannot_be_reached_is_a_matter_of_the_connection() -> None:
    with pytest.raises(DBAPIError) as refused, create_engine("postgresql+psycopg://u@127.0.0.1:1/x").connect():
        pass
    assert translate(refused.value, None, "/nowhere").kind == "connection"
    with pytest.raises(DBAPIError) as wrong, create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("SELECT * FROM nope")
    assert translate(wrong.value, None, "/nowhere").kind == "failed"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("def upgrade", "def up", "no function `upgrade`"),
        ("import asyncio", "raise SystemExit(3)\nimport asyncio", "SystemExit"),
        ("revision = 'three'", "", "revision id"),
        ("depends_on = None", "depends_on = 'nope'", "depends on 'nope'"),
        ("down_revision = 'two'", "down_revision = 'three'", "Self-loop"),
        ("depends_on = None", "depends_on = 'three'", "Dependency self-loop"),
    ],
)
def test_a_file_that_is_no_revision_is_named(project: Path, before: str, after: str, message: str) -> None:
    file = project / "alembic" / "versions" / "three.py"
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(HistoryError, match=message) as refused:
        _history(project)
    assert refused.value.file == str(file)
    assert refused.value.remedy


def test_a_cycle_names_its_files(project: Path) -> None:
    file = project / "alembic" / "versions" / "two.py"
    file.write_text(file.read_text().replace("down_revision = 'one'", "down_revision = 'three'"))
    with pytest.raises(HistoryError, match=r"do not form a history: Cycle.*three\.py") as refused:
        _history(project)
    assert refused.value.remedy


def test_a_label_given_twice_names_both_files(project: Path) -> None:
    for name in ("one", "three"):
        file = project / "alembic" / "versions" / f"{name}.py"
        file.write_text(file.read_text().replace("branch_labels = None", "branch_labels = 'main'"))
    with pytest.raises(HistoryError, match=r"'main' is given twice") as refused:
        _history(project)
    assert "one.py" in str(refused.value)
    assert "three.py" in str(refused.value)


@pytest.mark.parametrize("content", ["[alembic\n", "key = 1\n", "[alembic]\nscript_location = %(nope)s\n", None])
def test_a_configuration_that_cannot_be_read_is_named(project: Path, content: str | None) -> None:
    config = project / "alembic.ini"
    config.unlink()
    config.mkdir() if content is None else config.write_text(content)
    with pytest.raises(HistoryError, match="cannot be read") as refused:
        _history(project)
    assert refused.value.file == str(config)


def test_a_broken_pyproject_is_named(project: Path) -> None:
    if not environments.has_template("pyproject"):
        pytest.skip("this Alembic does not read pyproject.toml")
    (project / "pyproject.toml").write_text("[tool.alembic\n")
    with pytest.raises(HistoryError, match="cannot be read") as refused:
        _history(project)
    assert refused.value.file == str(project / "pyproject.toml")
