"""Addresses: whether only this machine can reach us, and where a request comes from behind proxies. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Networks = Sequence[IPv4Network | IPv6Network]


def networks(text: str) -> Networks:
    """Addresses and networks with commas between. Raises ValueError.

    >>> networks("10.0.0.5, 192.168.0.0/16")
    [IPv4Network('10.0.0.5/32'), IPv4Network('192.168.0.0/16')]
    """
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


def is_loopback(address: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("::ffff:127.0.0.1")
    (True, True, False, True)
    """
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


def client(peer: str | None, forwarded: Sequence[str], trusted: Networks) -> str | None:
    """Where a request comes from: `peer`, or what a trusted proxy says of it.

    `forwarded` are the X-Forwarded-For headers. Each proxy adds the address that it was asked from at the end, so they
    are read from there, and only as long as the last reader is one whom we trust: what stands before is anybody's.

    >>> client("10.0.0.5", ["6.6.6.6, 203.0.113.9"], networks("10.0.0.5"))
    '203.0.113.9'
    >>> client("203.0.113.9", ["6.6.6.6"], networks("10.0.0.5"))
    '203.0.113.9'
    """
    here = peer
    for word in reversed([part.strip() for header in forwarded for part in header.split(",")]):
        if here is None or not _is_in(here, trusted) or (said := _address(word)) is None:
            break
        here = said
    return here


def _is_in(address: str, trusted: Networks) -> bool:
    found = _address(address)
    return found is not None and any(ip_address(found) in network for network in trusted)


def _address(text: str) -> str | None:
    """The address in a word, which may have a port; None when there is none. One that is IPv4 in IPv6 is IPv4."""
    word = text.strip('"').partition("%")[0]
    if word.startswith("["):
        word = word[1:].partition("]")[0]
    elif word.count(":") == 1:
        word = word.partition(":")[0]
    try:
        found = ip_address(word)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def host_of(header: str) -> str:
    """The name in a Host header, without its port; empty when there is none.

    >>> host_of("LocalHost:8080"), host_of("[::1]:8080"), host_of("evil.example."), host_of("[")
    ('localhost', '::1', 'evil.example', '[')
    """
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return header


def names_loopback(text: str) -> bool:
    """
    >>> names_loopback("127.0.0.1"), names_loopback("localhost"), names_loopback("evil.example"), names_loopback("")
    (True, True, False, False)
    """
    try:
        return text == "localhost" or is_loopback(text)
    except ValueError:
        return False
