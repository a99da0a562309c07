from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.registry import secrets
from orchestrator.registry.secrets import Complaint, Secrets
from tests.unit.registry.files import ENVIRON, SHARDS, TENANTS, TRACKS, VALID, loaded, refused

CANARY = "hunter2"
AWKWARD = f"{CANARY}@:/?#%40[]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${A}", "a"),
        ("x${A}y${B}z", "xay{b}z"),
        ("${NOPE:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${NOPE:-}", ""),
        ("${NOPE:-a:-b}", "a:-b"),
        ("$${A}", "${A}"),
        ("$${A}${A}$$", "${A}a$$"),
        ("${file:secret}", "from a file\n"),
        ("${file}", "named file"),
        ("${file:-x}", "named file"),
        ("$A {A}", "$A {A}"),
    ],
)
def test_references_are_replaced(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "secret").write_bytes(b"from a file\n\r\n")
    environ = {"A": "a", "B": "{b}", "EMPTY": "", "file": "named file"}
    assert Secrets(environ, tmp_path).expand(text) == expected


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("${A}", 1),
        ("${A}${B}${C:-}", 2),
        ("${file:nowhere}", 1),
        ("${file:binary}", 1),
        ("${file:\0}", 1),
        ("${A-b}", 1),
        ("${}", 1),
        ("${ A }", 1),
        ("x${A", 1),
    ],
)
def test_every_reference_that_leads_nowhere_is_told(tmp_path: Path, text: str, messages: int) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(Complaint) as caught:
        Secrets({}, tmp_path).expand(text)
    assert len(caught.value.messages) == messages


def test_the_files_of_a_registry_are_found_in_its_text(tmp_path: Path) -> None:
    text = "a: ${file:one}\nb: x${file:/two}y $${file:three} ${file:-four} ${FIVE}\nc: [${file:one"
    assert secrets.files(text, tmp_path) == {tmp_path / "one", Path("/two")}


SHOWN_TO_NOBODY = [
    f"postgresql://u:{CANARY}@h:port",
    f"postgresql://u:{CANARY}@h:99999",
    f"postgresql://u:{CANARY}@",
    f"postgresql://u:{CANARY}@h/app",
    f"postgresql://u:{CANARY}#x@h",
    f"postgresql://u:x/{CANARY}@h",
    f"postgresql://u:x?{CANARY}@h",
    f"postgresql://u:{CANARY}@h?password={CANARY}",
    f"postgres://u:{CANARY}@h",
    f"mysql://u:{CANARY}@h",
    f"oracle://u:{CANARY}@h",
    f"{CANARY}",
    f"{CANARY}@h",
    f"sqlite://{CANARY}@h/x",
]


@pytest.mark.parametrize("url", SHOWN_TO_NOBODY)
@pytest.mark.parametrize("by_reference", [False, True])
def test_no_mistake_shows_a_secret(tmp_path: Path, url: str, by_reference: bool) -> None:
    written = "${URL}" if by_reference else url
    shards = f"shards: {{pg: {{url: '{written}', max_concurrent: x}}, b: {{url: '{written}', labels: [a]}}}}\n"
    error = refused(tmp_path, TRACKS + shards + TENANTS, {"URL": url})
    assert CANARY not in str(error) + repr(error) + repr(error.mistakes)


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://u:${P}@h:x",
        "postgresql://u:a@${P}",
        "postgresql://u:a@h:${P}",
        "postgresql://h/${P}",
        "${P}://h",
        "${P}",
        "postgresql://u:${NOPE}:${P}@h",
        "${NOPE:-" + CANARY + "}",
        "${" + CANARY + "!}",
    ],
)
def test_no_mistake_shows_a_value_of_the_environment(tmp_path: Path, written: str) -> None:
    error = refused(tmp_path, f"{TRACKS}shards: {{pg: {{url: '{written}'}}}}\n{TENANTS}", {"P": AWKWARD})
    assert CANARY not in str(error) + repr(error)


def test_no_mistake_shows_what_paths_and_variables_refer_to(tmp_path: Path) -> None:
    environment = 'environment: {A: "${P}${NOPE}", B: "{bad}${P}"}'
    tracks = (
        f"tracks: {{a: {{script_location: '${{P}}', isolation: process, {environment}}}, b: {{config: '${{P}}'}}}}\n"
    )
    error = refused(tmp_path, tracks + SHARDS + "tenants: []", {"P": AWKWARD})
    assert len(error.mistakes) == 4
    assert CANARY not in str(error) + repr(error)


def test_a_registry_shows_no_secret(tmp_path: Path) -> None:
    environment = 'isolation: process, environment: {A: "${PASSWORD}"}'
    text = VALID.replace("script_location: alembic", f"script_location: alembic, {environment}")
    url = f"postgresql://u:${{PASSWORD}}@pg.internal:5432/postgres?sslpassword={CANARY}"
    registry = loaded(tmp_path, text.replace("postgresql://u:${PASSWORD}@pg.internal:5432", url), {"PASSWORD": AWKWARD})
    assert registry.tracks["app"].environment == {"A": AWKWARD}
    assert registry.shards["pg"].url.password == AWKWARD
    assert CANARY not in repr(registry) + registry.digest
    assert repr(Secrets(ENVIRON, tmp_path)).count(ENVIRON["PASSWORD"]) == 0
