"""Checks by PromQL, asked of a real Prometheus server; and of one that lies, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest

from orchestrator.registry.model import Check
from orchestrator.rollout.ports import Verdict
from tests import prometheus
from tests.endpoints import Endpoint, says, serving
from tests.integration.execute.test_checks import asked, until_passed


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    async with prometheus.server() as started:
        yield started


async def ask(url: str, query: str, **fields: Any) -> Verdict:
    return await asked(Check("c", "promql", query, url=url, **fields))


@pytest.mark.parametrize(
    ("query", "fields", "passed", "said"),
    [
        ("up", {"least": 1}, True, "1"),
        ("sum(up)", {"least": 2}, False, "1, allowed is at least 2"),
        ("up", {"most": 0}, False, 'up{instance="127.0.0.1:'),
        ("vector(0.7)", {"most": 0.5}, False, "0.7, allowed is at most 0.5"),
        ("vector(0) / 0", {"most": 1}, False, "nan, allowed is at most 1"),
        ("vector(0) / 0", {"least": 0}, False, "nan, allowed is at least 0"),
        ("vector(1) / 0", {"most": 1}, False, "inf, allowed is at most 1"),
        ("7", {"least": 1, "most": 7}, True, "7"),
        ("nothing_here", {"most": 1}, False, "no answer: nothing matches the query"),
        ("nothing_here", {"most": 1, "empty_passes": True}, True, "nothing matches the query, as it should be"),
        ("up == 0", {"most": 0, "empty_passes": True}, True, "nothing matches the query, as it should be"),
        ("up == 1", {"most": 0, "empty_passes": True}, False, "allowed is at most 0"),
        ("absent(up)", {"most": 0, "empty_passes": True}, True, "nothing matches"),
        ('"text"', {"most": 1}, False, "the query gives a text, not numbers"),
        ("up[1m]", {"most": 1}, False, "take a function of it, such as rate"),
        ("sum(", {"most": 1}, False, '127.0.0.1 refuses the query: invalid parameter "query": 1:5: parse error'),
        ("prometheus_build_info * 1", {"least": 1, "most": 1}, True, "1"),
        ('{__name__=~"go_memstats_.+"} >= 0', {"least": 0}, True, "series are within the limits"),
    ],
)
async def test_every_sample_must_be_within_the_limits(
    url: str, query: str, fields: dict[str, Any], passed: bool, said: str
) -> None:
    verdict = await ask(url, query, **fields)
    assert verdict.passed is passed
    assert said in verdict.said
    assert verdict.said.startswith("c: ")


async def test_it_must_have_been_so_for_a_while(url: str) -> None:
    assert (await ask(url, "vector(1)", least=1, for_seconds=300)).passed
    half = "floor(vector(time()) / 10) % 2"  # 1 for ten seconds, then 0 for ten
    late = await ask(url, half, most=0, for_seconds=60)
    assert not late.passed
    assert late.said == "c: 1 within the last 60 s, allowed is at most 0"
    nan = await ask(url, f"vector(0) / ({half})", most=0, for_seconds=60)
    assert not nan.passed
    assert "nan within the last 60 s" in nan.said


async def test_what_was_not_measured_for_so_long_has_not_been_so(url: str) -> None:
    young = await ask(url, "up", least=1, for_seconds=3600)
    assert not young.passed
    assert "moments of the last 3600 s" in young.said
    await until_passed(Check("c", "promql", "up", url=url, least=1, for_seconds=2))
    nothing = await ask(url, "nothing_here", most=0, for_seconds=60)
    assert nothing.said == "c: no answer: nothing matches the query"


async def test_a_query_may_be_longer_than_any_url(url: str) -> None:
    query = "up" + " or up" * 5000
    assert (await ask(url, query, least=1)).passed


async def test_a_url_may_have_a_path_and_words_after_it(url: str) -> None:
    assert (await ask(f"{url}/?dedup=true", "up", least=1)).passed
    wrong = await ask(f"{url}/prometheus", "up", least=1)
    assert "127.0.0.1 answered with status 404 (correct `url` of the check" in wrong.said


# One that answers as it is told to


@contextmanager
def lying(*answers: dict[str, Any]) -> Iterator[Endpoint]:
    """Gives these answers in turn."""
    left = iter(answers)
    with serving(lambda handler: says(200, json.dumps(next(left)).encode())(handler)) as server:
        yield server


def success(kind: str, result: Any, **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


ONE = [{"metric": {}, "value": [1000, "1"]}]


async def test_an_answer_with_a_warning_may_lack_what_is_wrong() -> None:
    with lying(success("vector", ONE, warnings=["a store did not answer"])) as server:
        verdict = await ask(server.url, "up", least=1)
    assert not verdict.passed
    assert "may lack something: ['a store did not answer']" in verdict.said
    with lying(success("vector", ONE, infos=["this may not be a counter"])) as server:
        assert (await ask(server.url, "up", least=1)).passed


async def test_the_servers_clock_counts_and_we_are_let_in() -> None:
    steps = [[1000.0 - 4 + step, "1"] for step in range(5)]
    answers = success("scalar", [1000, "1000"]), success("matrix", [{"metric": {}, "values": steps}])
    with lying(*answers) as server:
        assert (await ask(server.url, "up", least=1, for_seconds=4, user="me", password="pä:ss")).passed
        first, second = server.asked
    assert (first.path, parse_qs(first.body)["query"]) == ("/api/v1/query", ["time()"])
    assert second.path == "/api/v1/query_range"
    window = parse_qs(second.body)
    assert (window["start"], window["end"], window["step"]) == (["996.000"], ["1000.000"], ["1.000"])
    assert second.headers["Authorization"] == "Basic bWU6cMOkOnNz"


async def test_a_server_that_says_its_secret_back_does_not_make_us_tell_it() -> None:
    with lying({"status": "error", "error": "no such user: s3cret-t0ken"}) as server:
        verdict = await ask(server.url, "up", least=1, token="s3cret-t0ken")
        assert server.asked[0].headers["Authorization"] == "Bearer s3cret-t0ken"
    assert "no such user: ***" in verdict.said


async def test_a_checks_name_is_no_secret() -> None:
    with lying(success("vector", ONE)) as server:
        verdict = await asked(Check("token", "promql", "up", url=server.url, most=0))
    assert verdict.said == "token: 1, allowed is at most 0"
