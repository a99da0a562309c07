"""Completes the OpenAPI document: what FastAPI cannot know of an operation is taken from `documented`."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from orchestrator.api import documented, problems
from orchestrator.api.boundary import REQUEST_ID, UNLIMITED

Node = dict[str, Any]

JSON = "application/json"
# Operations that change a rollout, or make one: somebody else may have changed it, or hold its targets.
STATE_CONFLICTS = "{rollout_id}"
# Places that stand in an address, and where an answer names them.
LINKED = {
    "rollout_id": {
        "start_rollout": "$response.body#/id",
        "show_rollout": "$response.body#/id",
        "list_rollouts": "$response.body#/items/0/id",
    },
    "tenant": {"list_tenants": "$response.body#/items/0/tenant"},
}


def complete(schema: Node) -> Node:
    """Add summaries, examples, links and every problem that an operation can answer with. Changes `schema`."""
    schema["tags"] = [{"name": name, "description": told} for name, told in documented.TAGS.items()]
    components = schema["components"]
    components["headers"] = dict(_HEADERS)
    components["responses"] = {_name(status): _problem(status) for status in documented.PROBLEMS}
    for path, method, operation in operations(schema):
        _tell(operation)
        _answer(path, method, operation)
    _link(schema)
    return schema


def operations(schema: Node) -> Iterator[tuple[str, str, Node]]:
    """Path, method and operation of each."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def statuses(path: str, method: str, operation: Node) -> set[HTTPStatus]:
    """The problems that an operation can answer with, by its shape."""
    found = {HTTPStatus.INTERNAL_SERVER_ERROR}
    if path == "/healthz":
        return found
    found.add(HTTPStatus.SERVICE_UNAVAILABLE)
    if path not in UNLIMITED:
        found |= {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    if path == "/metrics":
        found |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    if operation.get("parameters") or "requestBody" in operation:
        found.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    if "{" in path:
        found.add(HTTPStatus.NOT_FOUND)
    if method != "get":
        found |= {
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        }
        if STATE_CONFLICTS in path:
            found.add(HTTPStatus.CONFLICT)
    known = documented.OPERATIONS.get(operation["operationId"])
    return found | set(known.problems if known else ())


def _tell(operation: Node) -> None:
    told = documented.OPERATIONS.get(operation["operationId"])
    if told is None:
        return
    operation["summary"] = told.summary
    if told.description is not None:
        operation["description"] = told.description
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        parameter.setdefault("description", documented.PARAMETERS.get(name, ""))
        if name in documented.PARAMETER_EXAMPLES:
            parameter["example"] = documented.PARAMETER_EXAMPLES[name]
    if told.asks:
        operation["requestBody"]["content"][JSON]["examples"] = _examples(told.asks)
    for status, examples in told.answers.items():
        response = operation["responses"][str(int(status))]
        response["description"] = documented.ANSWERED.get(status, response["description"])
        for content in response["content"].values():
            of_later_openapi = content.pop("itemSchema", None)
            content.setdefault("schema", _EVENT if of_later_openapi else {"type": "string"})
            content["examples"] = _examples(examples)


def _examples(values: dict[str, Any]) -> Node:
    return {name.replace(" ", "_"): {"summary": name, "value": value} for name, value in values.items()}


def _answer(path: str, method: str, operation: Node) -> None:
    responses = operation["responses"]
    responses.pop("default", None)
    if operation["operationId"] == "start_rollout":
        responses["201"]["content"][JSON]["schema"] = {"$ref": "#/components/schemas/Rollout"}
        responses["201"]["headers"] = {"Location": {"$ref": "#/components/headers/Location"}}
    for response in responses.values():
        response.setdefault("headers", {})[REQUEST_ID] = {"$ref": f"#/components/headers/{REQUEST_ID}"}
    for status in sorted(statuses(path, method, operation)):
        responses[str(int(status))] = {"$ref": f"#/components/responses/{_name(status)}"}


def _link(schema: Node) -> None:
    """Say which operations an answer leads to."""
    found = {operation["operationId"]: (path, operation) for path, _, operation in operations(schema)}
    for parameter, sources in LINKED.items():
        followers = [name for name, (path, _) in found.items() if f"{{{parameter}}}" in path]
        for source, expression in sources.items():
            for status in ("200", "201"):
                if status in found[source][1]["responses"]:
                    found[source][1]["responses"][status]["links"] = {
                        name: {"operationId": name, "parameters": {parameter: expression}} for name in followers
                    }


def _name(status: HTTPStatus) -> str:
    """
    >>> _name(HTTPStatus.NOT_FOUND)
    'NotFound'
    """
    return status.name.title().replace("_", "")


def _problem(status: HTTPStatus) -> Node:
    told = documented.PROBLEMS[status]
    headers: Node = {REQUEST_ID: {"$ref": f"#/components/headers/{REQUEST_ID}"}}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": _examples(
            {one.title: one.model_dump(mode="json", exclude_none=True) for one in told.examples},
        ),
    }
    return {"description": told.description, "headers": headers, "content": {problems.MEDIA_TYPE: content}}


# Each event of a stream.
_EVENT: Node = {
    "type": "object",
    "description": "One event of the stream. Comments come every 15 seconds.",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$", "description": "For `Last-Event-ID`; `closed` has none."},
        "event": {"type": "string", "description": "What happened; `closed` ends the stream."},
        "data": {"type": "string", "contentMediaType": "application/json", "description": "An object."},
    },
    "required": ["event", "data"],
}

_HEADERS: Node = {
    REQUEST_ID: {
        "description": "The request's id: the one that came with it, if it was well-formed, or else a new one.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=@-]{1,128}$"},
        "required": True,
    },
    "Retry-After": {"description": "Ask again after so many seconds.", "schema": {"type": "integer", "minimum": 1}},
    "Location": {"description": "Where the rollout is shown.", "schema": {"type": "string"}},
}
