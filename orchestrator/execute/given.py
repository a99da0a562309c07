"""What env.py is given of a target: its URL, and the track's environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy.engine import URL

from orchestrator.history.drivers import drivername
from orchestrator.observe.redact import SHORTEST_SECRET
from orchestrator.registry.model import Registry, Target


def env_url(registry: Registry, target: Target, asynchronous: bool) -> URL:
    """The URL that env.py is given: the target's, with the driver that suits env.py."""
    url = registry.url_for(target)
    track = registry.tracks[target.track]
    return url.set(drivername=drivername(url, asynchronous, track.driver))


def env_variables(registry: Registry, target: Target, url: URL) -> dict[str, str]:
    """The track's `environment` with its placeholders filled in for one target."""
    values = registry.placeholders(target, url)
    named = re.compile("{(" + "|".join(values) + ")}")
    return {
        name: named.sub(lambda found: values[found[1]], text)
        for name, text in registry.tracks[target.track].environment.items()
    }


def hidden(url: URL, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What must not be shown: passwords in the URL, and all that the environment holds but for a letter or two."""
    given = [url.password or "", *(str(value) for name, value in url.query.items() if "password" in name)]
    return tuple(value for value in (*given, *environment.values()) if len(value) >= SHORTEST_SECRET)
