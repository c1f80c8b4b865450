"""Request bodies read into JSON data: JSON, YAML and the protobuf of newer kubectls. Pure.

Keys that stand twice in one JSON or YAML object are reported, since strict validation
refuses them. Raises ApiError 400, 413 and 415.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mesh.local.api import protobuf, status
from mesh.local.api.resources import Object

MAX_BODY: Final = 3 << 20  # bytes, as the real API server takes
MAX_DEPTH: Final = 100
JSON_TYPES: Final = ("application/json", "", "*/*", "application/octet-stream")
YAML_TYPES: Final = ("application/yaml", "text/yaml", "application/x-yaml")
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"


@dataclass(slots=True)
class Body:
    """A decoded body: `repeated` holds the words of strict decoding for keys given twice."""

    value: Any
    repeated: list[str] = field(default_factory=list)


def too_large() -> status.StatusError:
    words = f"Request entity too large: limit is {MAX_BODY}"
    return status.StatusError(413, "RequestEntityTooLarge", words)


def decode(media: str, raw: bytes) -> Body:
    """The object of a create or update. `media` is the content type without parameters."""
    if len(raw) > MAX_BODY:
        raise too_large()
    if media == PROTOBUF:
        try:
            return Body(protobuf.decode(raw))
        except protobuf.UnknownKind as error:
            raise status.unsupported_media(str(error)) from error
        except ValueError as error:
            raise status.bad_request(f"the protobuf body could not be decoded: {error}") from error
    if media in YAML_TYPES:
        return decode_yaml(raw)
    if media in JSON_TYPES:
        return decode_json(raw)
    raise status.unsupported_media(
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )


class _Pairs(dict[str, Any]):
    """A JSON object in which a key stood twice; the last value holds, as in Go."""

    twice: list[str]


def decode_json(raw: bytes) -> Body:
    """JSON with the paths of keys that stand twice in one object. Raises ApiError 400."""
    found_twice = False

    def collect(pairs: list[tuple[str, Any]]) -> Object:
        nonlocal found_twice
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        found_twice = True
        marked = _Pairs(plain)
        names = [name for name, _ in pairs]
        marked.twice = [name for name in plain if names.count(name) > 1]
        return marked

    try:
        value = json.loads(raw, object_pairs_hook=collect, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        words = "unexpected end of JSON input (<empty>)" if not raw.strip() else str(error)
        raise status.bad_request(
            f"the object provided is unrecognized: json parse error: {words}"
        ) from error
    return Body(value, list(_twice(value, "")) if found_twice else [])


def _twice(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name in getattr(value, "twice", ()):
            yield f'duplicate field "{path}{name}"'
        for name, item in value.items():
            yield from _twice(item, f"{path}{name}.")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _twice(item, f"{path[:-1]}[{number}].")


def decode_yaml(raw: bytes) -> Body:
    try:
        return Body(yaml.load(raw, Loader=_Loader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise status.bad_request(f"the object provided is not YAML: {error}") from error


def as_object(body: Body) -> Object:
    """The body as an object. Raises ApiError 400."""
    if not isinstance(body.value, dict):
        raise status.bad_request("the body of the request is not an object")
    if too_deep(body.value):
        raise status.bad_request(f"the object is nested more than {MAX_DEPTH} levels deep")
    return body.value


def too_deep(value: Any) -> bool:
    """Whether JSON data nests deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: dates stay strings."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
