"""Tokens of an identity provider: what counts, and everything that must not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from orchestrator.access import jwks, roles
from orchestrator.access.jwks import KeySet
from orchestrator.access.oidc import Provider, Refused, Verifier
from orchestrator.access.roles import Role
from orchestrator.errors import ConfigurationError, UnavailableError
from tests.engine import until

ISSUER, AUDIENCE = "https://id.example", "orchestrator"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
STRANGERS = rsa.generate_private_key(65537, 2048)


def public(kid: str, key: Any, **more: Any) -> dict[str, Any]:
    kinds: dict[Any, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm = next((kind for cls, kind in kinds.items() if isinstance(key, cls)), OKPAlgorithm)
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


def claims(**changed: Any) -> dict[str, Any]:
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 60, "roles": ["operator"], **changed}
    return {name: value for name, value in made.items() if value is not None}


def signed(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "a", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, headers={"kid": kid} if kid else {})


def verifier(keys: Any, **provider: Any) -> Verifier:
    given = {"issuer": ISSUER, "audience": AUDIENCE, "role_claim": "roles", "words": roles.mapping(""), **provider}
    return Verifier(Provider(**given), keys)


@pytest.fixture
def keys(tmp_path: Path) -> KeySet:
    file = tmp_path / "jwks.json"
    document = [public("a", RSA_KEY), public("b", EC_KEY, alg="ES256"), public("c", ED_KEY)]
    file.write_text(json.dumps({"keys": [*document, {"kty": "oct", "kid": "d", "k": "c2VjcmV0"}]}))
    return KeySet(str(file))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA_KEY, "RS256", "a"), (RSA_KEY, "PS512", "a"), (EC_KEY, "ES256", "b"), (ED_KEY, "EdDSA", "c")],
)
async def test_a_token_that_the_provider_has_signed_counts(keys: KeySet, key: Any, algorithm: str, kid: str) -> None:
    caller = await verifier(keys).caller(signed(key, algorithm, kid))
    assert (caller.name, caller.role, caller.proved) == ("oidc:alice", Role.OPERATOR, True)


def unsigned(**changed: Any) -> str:
    return jwt.encode(claims(**changed), "", "none", headers={"kid": "a"})


def signed_with_the_public_key(algorithm: str = "HS256") -> str:
    """The old trick: the public key as if it were a shared secret."""
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = part(json.dumps({"alg": algorithm, "kid": "a"}).encode())
    text = head + b"." + part(json.dumps(claims()).encode())
    return (text + b"." + part(hmac.digest(pem, text, hashlib.sha256))).decode()


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (lambda: signed(exp=time.time() - 31), "expired"),
        (lambda: signed(exp=None), "lacks a claim"),
        (lambda: signed(sub=None), "lacks a claim"),
        (lambda: signed(iss=None), "lacks a claim|another issuer"),
        (lambda: signed(aud=None), "lacks a claim|another audience"),
        (lambda: signed(iss="https://other.example"), "another issuer"),
        (lambda: signed(aud="another"), "another audience"),
        (lambda: signed(nbf=time.time() + 300), "does not count yet"),
        (lambda: signed(sub=""), "subject"),
        (lambda: signed(sub="a\nb"), "subject"),
        (lambda: signed(STRANGERS), "signature is wrong"),
        (lambda: signed(kid="z"), "key that the identity provider does not name"),
        (lambda: signed(kid=None), "key that the identity provider does not name"),
        (lambda: jwt.encode(claims(), b"secret" * 8, "HS256", headers={"kid": "d"}), "does not name"),
        (unsigned, "algorithm"),
        (signed_with_the_public_key, "algorithm"),
        (lambda: signed(EC_KEY, "ES256", "a"), "algorithm"),
        (lambda: signed(RSA_KEY, "RS256", "b"), "algorithm"),
        (lambda: signed()[:-4] + "AAAA", "signature is wrong"),
        (lambda: "a.b.c", "cannot be verified"),
        (lambda: "nonsense", "cannot be verified"),
        (lambda: "é.é.é", "cannot be verified"),
        (lambda: "a" * 20_000, "too long"),
    ],
)
async def test_anything_else_does_not(keys: KeySet, token: Callable[[], str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        await verifier(keys).caller(token())


async def test_clocks_may_differ_a_little(keys: KeySet) -> None:
    assert (await verifier(keys).caller(signed(exp=time.time() - 10))).role is Role.OPERATOR


@pytest.mark.parametrize(
    ("claim", "value", "path", "role"),
    [
        ("roles", ["viewer", "approver", "unknown"], "roles", Role.APPROVER),
        ("scope", "openid operator", "scope", Role.OPERATOR),
        ("realm_access", {"roles": ["admin"]}, "realm_access.roles", Role.ADMIN),
        ("https://x.example/roles", ["viewer"], "https://x.example/roles", Role.VIEWER),
        ("roles", [], "roles", None),
        ("roles", {"admin": True}, "roles", None),
        ("roles", ["Admin"], "roles", None),
        ("other", ["admin"], "roles", None),
        ("roles", None, "roles.admin", None),
    ],
)
async def test_the_highest_role_of_the_claim_counts(
    keys: KeySet, claim: str, value: Any, path: str, role: Role | None
) -> None:
    token = signed(**{"roles": None, claim: value})
    assert (await verifier(keys, role_claim=path).caller(token)).role is role


async def test_a_providers_own_words_stand_for_roles(keys: KeySet) -> None:
    words = roles.mapping("sre=operator, leads=approver")
    asked = verifier(keys, words=words)
    assert (await asked.caller(signed(roles=["leads"]))).role is Role.APPROVER
    assert (await asked.caller(signed(roles=["admin"]))).role is None


class Provided:
    """An identity provider that is asked over HTTP, and a clock."""

    def __init__(self) -> None:
        self.document: Any = {"keys": [public("a", RSA_KEY)]}
        self.status, self.asked, self.now = 200, 0, 1000.0
        self.slow = False
        self.keys = KeySet(ISSUER, clock=lambda: self.now, transport=httpx2.MockTransport(self._answer))

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        if self.slow:
            await anyio.sleep_forever()
        return httpx2.Response(self.status, json=self.document)


async def test_keys_are_asked_for_again_when_the_provider_changes_them_and_not_for_nonsense() -> None:
    provided = Provided()
    asked = verifier(provided.keys)
    await asked.caller(signed())
    await asked.caller(signed())
    assert provided.asked == 1
    for _ in range(20):
        with pytest.raises(Refused):
            await asked.caller(signed(STRANGERS, kid="b"))
    assert provided.asked == 1
    provided.document = {"keys": [public("b", STRANGERS)]}
    provided.now += jwks.PAUSE_SECONDS
    assert (await asked.caller(signed(STRANGERS, kid="b"))).name == "oidc:alice"
    assert provided.asked == 2
    with pytest.raises(Refused):
        await asked.caller(signed())


async def test_a_key_that_is_withdrawn_ends_to_count_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RENEW_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(jwks, name, 0.01)
    provided = Provided()
    asked = verifier(provided.keys)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked.watch)
        await until(lambda: provided.asked == 1)
        await asked.caller(signed())
        assert provided.asked == 1
        provided.document = {"keys": [{"kty": []}]}  # what cannot be read leaves the keys as they are
        provided.now += 1
        await until(lambda: provided.asked == 2)
        await asked.caller(signed())
        provided.document = {"keys": []}
        provided.now += 1
        await until(lambda: provided.keys._keys == {})
        with pytest.raises(Refused, match="does not name"):
            await asked.caller(signed())
        tasks.cancel_scope.cancel()


async def test_nobody_waits_for_keys_that_are_known_to_be_renewed() -> None:
    provided = Provided()
    asked = verifier(provided.keys)
    await asked.caller(signed())
    provided.slow = True
    provided.now += jwks.STALE_SECONDS - 1
    await asked.caller(signed())
    assert provided.asked == 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked.watch)
        await until(lambda: provided.asked == 2)
        await asked.caller(signed())
        tasks.cancel_scope.cancel()


async def test_a_provider_that_fails_lets_nobody_in_by_mistake() -> None:
    provided = Provided()
    provided.status = 500
    asked = verifier(provided.keys)
    with pytest.raises(UnavailableError, match="not known"):
        await asked.caller(signed())
    provided.status = 200
    provided.now += jwks.PAUSE_SECONDS
    await asked.caller(signed())
    provided.document = "no key set"
    provided.now += jwks.STALE_SECONDS / 2
    assert (await asked.caller(signed())).role is Role.OPERATOR  # the last good keys, for a while
    provided.now += jwks.STALE_SECONDS
    with pytest.raises(UnavailableError):
        await asked.caller(signed())


def test_keys_over_plain_http_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="can be anybody's"):
        KeySet("http://id.example/keys")
    KeySet("http://127.0.0.1:1/keys")
