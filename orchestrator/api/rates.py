"""How often one client may ask: a bucket of tokens for each address, which fills again with time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

# A client that was quiet may ask for so many seconds' worth at once.
BURST_SECONDS = 5.0
# The addresses that are remembered; the one that has been quiet longest is forgotten first, and so begins anew.
MOST_CLIENTS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


@dataclass
class Buckets:
    """`per_second` tokens for each client; 0: no limit."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def take(self, client: str) -> float:
        """Take a token. 0 when there was one, or the seconds until there is."""
        if self.per_second <= 0:
            return 0.0
        now, most = self.clock(), max(1.0, self.per_second * BURST_SECONDS)
        bucket = self._buckets.setdefault(client, _Bucket(most, now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.left = min(most, bucket.left + (now - bucket.at) * self.per_second)
        bucket.at = now
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / self.per_second
        bucket.left -= 1.0
        return 0.0


def client_of(address: str | None) -> str:
    """Whose bucket an address takes from. A host with IPv6 commonly has a whole network of 64 bits to itself.

    >>> client_of("2001:db8::1:2:3:4"), client_of("::ffff:192.0.2.7"), client_of("192.0.2.7")
    ('2001:db8::/64', '192.0.2.7', '192.0.2.7')
    """
    if address is None or ":" not in address:
        return address or ""
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
