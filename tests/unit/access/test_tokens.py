from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.access import file, tokens
from orchestrator.access.flood import PER_PLACE, PLACES, WINDOW_SECONDS, Bound
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Token

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def minted(**fields: object) -> tokens.Minted:
    given = {"created_by": "terminal:ann", "now": NOW, "expires_at": NOW + timedelta(days=1), **fields}
    return tokens.mint("ci", Role.OPERATOR, **given)  # type: ignore[arg-type]


def test_a_token_is_known_by_its_hash_alone() -> None:
    made = minted()
    assert tokens.id_of(made.text) == made.token.id
    assert made.token.hash == f"sha256:{hashlib.sha256(made.text.encode()).hexdigest()}"
    secret = made.text.rsplit("_", 1)[1] if made.text.count("_") == 2 else made.text.split("_", 2)[2]
    assert secret not in repr(made) + repr(made.token)
    assert tokens.judged(made.text, made.token, NOW) == made.token
    assert made.token.caller.name == "user:ci"


def test_no_two_are_alike() -> None:
    assert len({minted().text for _ in range(100)} | {minted().token.id for _ in range(100)}) == 200


@pytest.mark.parametrize(
    "text", ["", "orc_", "orc__", "orc_abc_def", "a.b.c", "orc_" + "a" * 16 + "_" + "b" * 42 + "é"]
)
def test_what_does_not_look_like_one_is_not_looked_up(text: str) -> None:
    assert tokens.id_of(text) is None


def test_whoever_has_not_the_secret_learns_nothing_of_it() -> None:
    made, other = minted(), minted()
    guessed = f"orc_{made.token.id}_{other.text.split('_', 2)[2]}"
    for token in (made.token, replace(made.token, revoked_at=NOW), replace(made.token, expires_at=NOW), None):
        assert tokens.judged(guessed, token, NOW) == "unknown"


def test_it_ends_when_it_expires_and_when_it_is_revoked() -> None:
    made = minted()
    assert tokens.judged(made.text, made.token, NOW + timedelta(days=1)) == "expired"
    assert tokens.judged(made.text, replace(made.token, revoked_at=NOW), NOW) == "revoked"
    forever = minted(expires_at=None)
    assert isinstance(tokens.judged(forever.text, forever.token, NOW + timedelta(days=9999)), Token)


def test_hashes_are_compared_in_constant_time_also_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    made = minted()
    tokens.judged(made.text, None, NOW)
    tokens.judged(made.text, made.token, NOW)
    assert [len(one) == len(other) for one, other in compared] == [True, True]


@pytest.mark.parametrize("name", ["", "a b", "-a", "user:a", "é", "a" * 65, "a\n"])
def test_a_name_that_could_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name begins with"):
        tokens.mint(name, Role.VIEWER, created_by="x", now=NOW, expires_at=None)


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "0d", "1y", "1.5d", "Never", "9999999d", "1d\n"])
def test_a_lifetime_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="90d"):
        tokens.lifetime(text)


def test_an_entry_of_a_tokens_file_is_read_as_it_was_printed() -> None:
    made = [minted(), minted(expires_at=None)]
    content = "tokens:\n" + "\n".join(f"  {file.entry(one.token)}" for one in made)
    read, mistakes = file.parse(content.encode())
    assert mistakes == []
    assert [(one.id, one.hash, one.role, one.expires_at, one.source) for one in read] == [
        (one.token.id, one.token.hash, Role.OPERATOR, one.token.expires_at, "file") for one in made
    ]


ID = "a" * 16
HASH = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "one list"),
        ("[]", "one list"),
        ("tokens: {}", "one list"),
        ("tokens: []\nmore: 1", "one list"),
        ("tokens: [", "cannot be read"),
        ("tokens: " + "[" * 1000, "cannot be read"),
        ("tokens: [3]", "entry 1: it must have"),
        ("tokens: [{id: [a], name: {b: c}, role: root, hash: abc, more: 1}]", "entry 1: there is no key 'more'"),
        (f"tokens: [{{id: {ID}, name: yes, role: root, hash: '{HASH}'}}]", "`role` must be one of"),
        (
            f"tokens: [{{id: {ID}, name: a, role: viewer, hash: '{HASH}', expires_at: soon}}]",
            "`expires_at`",
        ),
        (f"tokens: [{{id: {ID}, name: a, role: viewer, hash: '{HASH[:-1]}'}}]", "`hash` must be"),
        ("tokens: \xff", "cannot be read"),
    ],
)
def test_mistakes_in_a_tokens_file_are_told_without_what_it_holds(content: str, said: str) -> None:
    read, mistakes = file.parse(content.encode("latin-1"))
    assert read == []
    assert said in "; ".join(mistakes)
    assert "abc" not in "; ".join(mistakes)


def test_one_id_twice_is_a_mistake() -> None:
    line = file.entry(minted().token)
    assert "stands twice" in "".join(file.parse(f"tokens:\n{line}\n{line}".encode())[1])


def test_refusals_are_recorded_up_to_a_bound_and_the_rest_is_counted() -> None:
    bound = Bound()
    recorded = [bound.admit("6.6.6.6", "401", 0.0) for _ in range(100)]
    assert recorded == [0] * PER_PLACE + [None] * (100 - PER_PLACE)
    assert bound.admit("7.7.7.7", "401", 1.0) == 100 - PER_PLACE
    everywhere = [bound.admit(f"place {n}", "401", 2.0) for n in range(PLACES * 3)]
    assert sum(one is not None for one in everywhere) < 100
    assert bound.admit("6.6.6.6", "401", WINDOW_SECONDS) is not None
