"""Bearer tokens of an identity provider (OpenID Connect): JSON Web Tokens, verified by the provider's public keys.

Everything that is not as it must be refuses the token. Only asymmetric algorithms are taken, whatever the token says
of itself: with a symmetric one, the public key would be the secret. It must name our issuer and audience, an end, and
a subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.access import callers, roles
from orchestrator.access.callers import Caller
from orchestrator.access.jwks import KeySet
from orchestrator.access.roles import Role
from orchestrator.errors import ConfigurationError

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
# Between the provider's clock and ours.
LEEWAY_SECONDS = 30
LONGEST_TOKEN = 16_384
LONGEST_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Provider:
    """`role_claim` is a claim's name, or a path to it (`realm_access.roles`); `words` says which of its values stands
    for which role."""

    issuer: str
    audience: str
    role_claim: str
    words: Mapping[str, Role]


class Refused(Exception):
    """The token does not count; the message says why, without what it holds."""


class Verifier:
    """Tells who has a token of the provider."""

    def __init__(self, provider: Provider, keys: KeySet) -> None:
        """Raises ConfigurationError when the library that verifies is not installed."""
        try:
            import jwt
        except ImportError as exc:
            raise ConfigurationError(
                "tokens of an identity provider need the package PyJWT, which is not installed",
                remedy="pip install 'migration-orchestrator[oidc]', or unset ORCHESTRATOR_OIDC_ISSUER",
            ) from exc
        self._jwt, self._provider, self._keys = jwt, provider, keys

    async def watch(self) -> None:
        """Keep the provider's keys new, for ever."""
        await self._keys.watch()

    async def caller(self, text: str) -> Caller:
        """Raises Refused, and UnavailableError while the provider's keys are not known."""
        try:
            return caller(await self._claims(text), self._provider)
        except self._jwt.PyJWTError as exc:
            raise Refused(_WORDS.get(type(exc).__name__, "it cannot be verified")) from exc
        except (ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise Refused("it cannot be verified") from exc

    async def _claims(self, text: str) -> Mapping[str, Any]:
        if len(text) > LONGEST_TOKEN:
            raise Refused("it is too long")
        header = self._jwt.get_unverified_header(text)
        found = await self._keys.key(header.get("kid"))
        if found is None:
            raise Refused("it is signed with a key that the identity provider does not name")
        allowed = [found["alg"]] if "alg" in found else list(ALGORITHMS[found["kty"]])
        if not set(allowed) <= set(ALGORITHMS[found["kty"]]) or header.get("alg") not in allowed:
            raise Refused("it is signed with an algorithm that its key is not for")
        claims: Mapping[str, Any] = self._jwt.decode(
            text,
            self._jwt.PyJWK(dict(found), algorithm=header["alg"]).key,
            algorithms=allowed,
            audience=self._provider.audience,
            issuer=self._provider.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims


def caller(claims: Mapping[str, Any], provider: Provider) -> Caller:
    """Who the verified claims tell of; without a role that we know, somebody who may do nothing. Raises Refused."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise Refused("its subject cannot be a name")
    words = _words(claims, provider.role_claim)
    return Caller(
        f"{callers.SUBJECT}{subject}", roles.highest(provider.words[word] for word in words if word in provider.words)
    )


def _words(claims: Mapping[str, Any], path: str) -> list[str]:
    """The texts of the claim: one with blanks between, as `scope` is, or a list."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []


# What may be said to whoever sends it, by the library's errors.
_WORDS = {
    "ExpiredSignatureError": "it has expired",
    "ImmatureSignatureError": "it does not count yet",
    "InvalidAudienceError": "it is for another audience",
    "InvalidIssuerError": "it is from another issuer",
    "InvalidSignatureError": "its signature is wrong",
    "MissingRequiredClaimError": "it lacks a claim: exp, iss, aud and sub must be there",
}
