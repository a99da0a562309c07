"""One short text that tells two registries apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass


def of(*content: object) -> str:
    """Hash values, dataclasses and collections of them. Mappings that are equal in another order are equal."""
    text = json.dumps(content, default=_canonical, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> object:
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return dict(value) if isinstance(value, Mapping) else str(value)
