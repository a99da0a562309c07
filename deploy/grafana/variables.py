"""What a person chooses on a dashboard: an installation, and of it what the dashboard is about."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
# What a dashboard shows is of one installation, which is a scrape job: numbers of two are never mixed.
JOB = 'job="$job"'
# Of rollouts: one over all tracks has `*` for its track.
OF_TRACK = 'track=~"$track|[*]"'
# Of histograms and signals: where there are many shards, small ones are told as one there, and by name elsewhere.
OF_SHARD = 'shard=~"$shard|other"'
SMALL_ONES = "Where there are many shards, small ones are one here: other."


def variable(name: str, metric: str, *more: str) -> Json:
    """A choice among the values of a label, several or all at once. `more`: matchers that narrow it."""
    everything = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return {**_asked(name, f"{metric}{{{','.join([JOB, *more])}}}"), **everything}


def installation() -> Json:
    """One at a time."""
    return {**_asked("job", "orchestrator_leader"), "label": "Installation", "multi": False, "includeAll": False}


def _asked(name: str, metric: str) -> Json:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "current": {},
    }


def datasource() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
