"""Whatever the file holds: a registry or a RegistryError, and never anything else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import RegistryError
from orchestrator.registry import document, forms, manifest, sections
from tests.unit.registry.files import ENVIRON, VALID, loaded, write

DISCOVER = """discover:
  - {shard: pg, databases: "t_(?P<tenant>.+)", exclude: [x], refresh: 5m}
  - {shard: local, files: "*.db", pattern: '(?P<tenant>\\w+)\\.db'}
  - {name: api, url: "https://h:1/x", token: "${PASSWORD}"}
"""
SIGNS = list(":-{}[],#'\"|>?%@~!&*\\é\t\n\x85\ue000\ufeff")
PIECES = st.sampled_from(
    [*SIGNS, ": ", "- ", "  ", "&a ", "*a", "<<", "!!str ", "!x ", "null", "${", "---\n", "tracks"]
)
KEYS = st.sampled_from([*sections.SECTIONS, *forms.TrackForm.model_fields, *forms.PlaceForm.model_fields, "schema"]) | (
    st.sampled_from(["app", "pg", "id", "url", "labels", "databases", "on_failure", "max", "then", "waves", "name"])
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), KEYS, st.just("${PASSWORD}")
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "")
        path.write_bytes(content)
        try:
            manifest.load(path, ENVIRON)
        except RegistryError as exc:
            _check(exc, content)


def _check(error: RegistryError, content: bytes) -> None:
    last = len(content.decode("utf-8", "replace").splitlines()) + 1
    assert error.mistakes
    assert all(0 <= mistake.line <= last for mistake in error.mistakes)
    assert ENVIRON["PASSWORD"] not in str(error)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=20).map("".join)))
def test_any_text(text: str) -> None:
    read(text.encode("utf-8", "surrogatepass"))


@settings(deadline=None)
@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    read(content)


@settings(deadline=None)
@given(st.data())
def test_a_valid_file_with_something_else_in_it(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID)))
    end = data.draw(st.integers(start, min(len(VALID), start + 12)))
    read((VALID[:start] + data.draw(PIECES) + VALID[end:]).encode())


@settings(deadline=None)
@given(st.data())
def test_a_valid_source_with_something_else_in_it(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(DISCOVER)))
    end = data.draw(st.integers(start, min(len(DISCOVER), start + 12)))
    read((VALID + DISCOVER[:start] + data.draw(PIECES) + DISCOVER[end:]).encode())


@settings(deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree_of_known_keys(tree: dict[str, object]) -> None:
    read(json.dumps(tree).encode())


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, "a: " * 5_000, "- " * 50_000 + "x"])
def test_any_depth(text: str) -> None:
    read(text.encode())


def test_without_the_c_library_the_same_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = loaded(tmp_path, VALID)
    resolvers = document._Loader.yaml_implicit_resolvers
    monkeypatch.setattr(
        document, "_Loader", type("_PlainLoader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": resolvers})
    )
    assert loaded(tmp_path, VALID) == expected
    read(b"tracks: [\n")
    read(b"\t")
