"""Collects the mistakes of one registry file, each at its line and column, in the operator's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from orchestrator.errors import Mistake, RegistryError
from orchestrator.registry.document import Document, Where

_KINDS = {type(None): "nothing", dict: "a mapping", list: "a list", str: "text"}
_SENTENCES = {
    "missing": "`{key}` is missing",
    "string_type": "this must be text, not {found}",
    "float_parsing": "this must be a number",
    "float_type": "this must be a number, not {found}",
    "finite_number": "this must be a number",
    "greater_than": "this must be more than {gt}",
    "int_parsing_size": "this number is too large",
    "int_parsing": "this must be a whole number",
    "int_from_float": "this must be a whole number",
    "int_type": "this must be a whole number, not {found}",
    "greater_than_equal": "this must be at least {ge}",
    "less_than_equal": "this must be at most {le}",
    "literal_error": "this must be {expected}",
    "model_type": "this must be a mapping, not {found}",
    "dict_type": "this must be a mapping, not {found}",
    "list_type": "this must be a list, not {found}",
}


class Report:
    """The mistakes found so far. Messages never quote a value that may hold a secret."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.mistakes: list[Mistake] = list(document.mistakes)

    def at(self, where: Where, *messages: str, key: bool = False) -> None:
        """Note mistakes in the value at `where`, or in its key."""
        line, column = self.document.position(where, key=key)
        self.mistakes += [Mistake(line, column, message, dotted(where)) for message in messages]

    def line(self, where: Where) -> int:
        """Return the line, from 1, of the value at `where`."""
        return self.document.position(where)[0]

    def unknown(self, where: Where, noun: str, name: str, known: Iterable[str], *, key: bool = False) -> None:
        """Note that `name` is not one of the `known`."""
        self.at(where, f"unknown {noun} {name!r}{suggestion(name, known)}", key=key)

    def invalid(self, where: Where, exc: ValidationError, form: type[BaseModel]) -> None:
        """Note everything that pydantic has against the entry at `where`, which should have been a `form`."""
        for error in exc.errors(include_url=False):
            inner = error["loc"]
            if error["type"] == "extra_forbidden":
                known = _keys(_form_at(form, inner[:-1]))
                self.unknown((*where, *inner), "key", str(inner[-1]), known, key=True)
            elif inner[-1:] == ("[key]",):
                self.at((*where, *inner[:-1]), _sentence(error), key=True)
            elif error["type"] == "missing":
                self.at((*where, *inner[:-1]), _sentence(error))
            else:
                self.at((*where, *inner), _sentence(error))

    def close(self) -> None:
        """Raise RegistryError when there were mistakes."""
        if self.mistakes:
            raise RegistryError(self.document.source, list(dict.fromkeys(self.mistakes)))


def suggestion(name: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown name with the likeliest known one, or with what there is."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=1):
        return f"; did you mean {close[0]!r}?"
    if not names:
        return "; there are none"
    return f"; known are {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"


def dotted(where: Where) -> str:
    """Write a place in the file as operators do: `tenants[3].shard`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def _sentence(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "string_type" and error["input"] is None:
        return 'this has no value; the text "null" needs quotes'
    found = _KINDS.get(type(error["input"]), "this")
    sentence = _SENTENCES.get(error["type"], "this is not valid here ({type})")
    return sentence.format_map({**context, "found": found, "key": (error["loc"] or ("",))[-1], "type": error["type"]})


def _keys(form: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in form.model_fields.items()]


def _form_at(form: type[BaseModel], inner: tuple[str | int, ...]) -> type[BaseModel]:
    """Follow `inner` through the annotations; list indices and free mapping keys stay where they are."""
    for part in inner:
        fields = {info.alias or name: info for name, info in form.model_fields.items()}
        if part in fields:
            form = next(_forms(fields[str(part)].annotation), form)
    return form


def _forms(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    if get_origin(annotation) in (list, dict, Union, UnionType):
        for argument in get_args(annotation):
            yield from _forms(argument)
