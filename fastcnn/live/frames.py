"""Arrays and numbers as a page reads them: base64 of 32-bit floats, and JSON, which has no NaN and no infinity."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np

from ..typing import Array

THUMBNAIL = 1024  # numbers of a layer in the overview
LARGEST = 1 << 15  # of a layer that is looked at closely


def packed(array: Array, most: int, first: int = 0) -> dict[str, Any]:
    """Return maps for the page: as many channels, from `first` on, as `most` numbers have room for; at least one."""
    flat = array if array.ndim > 1 else array.reshape(1, -1)
    each = max(1, flat[0].size)
    part = flat[first : first + max(1, most // each)]
    if array.ndim == 1:
        part = array[first : first + most]
    data = np.ascontiguousarray(part, np.float32).tobytes()
    return {"shape": part.shape, "first": first, "data": base64.b64encode(data).decode()}


def as_text(maps: dict[str, dict[str, Any]]) -> str:
    """Return packed maps by name as JSON: faster than a general writer, which would look at each letter of them."""
    words = [
        f'{json.dumps(name)}:{{"shape":{list(each["shape"])},"first":{each["first"]},"data":"{each["data"]}",'
        f'"columns":{"true" if each.get("columns") else "false"}}}'
        for name, each in maps.items()
    ]
    return "{" + ",".join(words) + "}"


def as_json(value: Any) -> bytes:
    """Return JSON; numbers that are not finite are words."""
    return json.dumps(_said(value), ensure_ascii=False, separators=(",", ":")).encode()


def _said(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_said(one) for one in value]
    return value
