"""Asks an HTTP endpoint whether it answers as a check says."""

from __future__ import annotations

import httpx2

from orchestrator.databases.fetching import answered, body, host_of, trusting
from orchestrator.errors import CheckError
from orchestrator.execute.verdicts import Finding, shown
from orchestrator.registry.model import Check

# Of an answer, so much is looked through.
LARGEST_BYTES = 1_000_000
LARGEST_NUMBER_BYTES = 1_000


async def client(check: Check) -> httpx2.AsyncClient:
    """Straight to the host, whatever proxy the environment names; redirections are not followed."""
    headers = {"Accept": "*/*" if check.probe == "http" else "application/json", "Accept-Encoding": "identity"}
    if check.token is not None:
        headers["Authorization"] = f"Bearer {check.token}"
    auth = httpx2.BasicAuth(check.user, check.password or "") if check.user is not None else None
    return httpx2.AsyncClient(
        headers=headers,
        auth=auth,
        timeout=check.timeout_seconds,
        transport=httpx2.AsyncHTTPTransport(verify=await trusting()),
        trust_env=False,
    )


async def ask(client: httpx2.AsyncClient, check: Check) -> Finding:
    """Raises CheckError."""
    host, seconds = host_of(check.text), check.timeout_seconds
    remedy = "check that it is up, and that `http` of the check is right"
    async with answered(client, "GET", check.text, seconds=seconds, error=CheckError, remedy=remedy) as response:
        if response.status_code != check.status:
            return Finding(False, f"{host} answered with status {response.status_code}, not {check.status}")
        if check.contains is None:
            return Finding(True, f"status {check.status}")
        if await _holds(response, check.contains):
            return Finding(True, f"status {check.status}, and the answer holds what it should")
    return Finding(False, f"the answer of {host} does not hold {shown(check.contains)}")


async def _holds(response: httpx2.Response, text: str) -> bool:
    """Whether the text is within the first bytes of the answer, which may go on for ever."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > LARGEST_BYTES:
            break
    try:
        return text in content.decode(response.charset_encoding or "utf-8", errors="replace")
    except LookupError:  # an encoding that nobody knows
        return text in content.decode("utf-8", errors="replace")


async def number(client: httpx2.AsyncClient, check: Check) -> float:
    """The number that the endpoint answers with, and nothing else. Raises CheckError."""
    host, seconds = host_of(check.text), check.timeout_seconds
    remedy = "check that it is up, and that `http` of the probe is right"
    async with answered(client, "GET", check.text, seconds=seconds, error=CheckError, remedy=remedy) as response:
        if response.status_code != check.status:
            raise CheckError(f"{host} answered with status {response.status_code}, not {check.status}")
        content = await body(response, LARGEST_NUMBER_BYTES)
    try:
        return float(content or b"")
    except ValueError:
        raise CheckError(f"{host} does not answer with a number", remedy="let it answer with one") from None
