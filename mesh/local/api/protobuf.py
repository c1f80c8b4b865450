"""Kubernetes' protobuf bodies, decoded to the JSON form of the object. Pure.

kubectl 1.32 and newer send `create X`, `create token` and `auth` requests this way and do
not fall back. Wire format: protobuf.dev/programming-guides/encoding; the envelope is
k8s.io/apimachinery/pkg/runtime.Unknown behind four magic bytes. Unknown fields are skipped.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from mesh.local.api.protobuf_table import TABLE
from mesh.local.api.resources import Object

MAGIC: Final = b"k8s\x00"
MAX_DEPTH: Final = 64

_PACKAGES: Final = {
    "v1": "corev1",
    "apps/v1": "appsv1",
    "batch/v1": "batchv1",
    "rbac.authorization.k8s.io/v1": "rbacv1",
    "policy/v1": "policyv1",
    "scheduling.k8s.io/v1": "schedulingv1",
    "coordination.k8s.io/v1": "coordinationv1",
    "authentication.k8s.io/v1": "authenticationv1",
    "authorization.k8s.io/v1": "authorizationv1",
    "autoscaling/v1": "autoscalingv1",
}
_FIELD: Final = re.compile(r"([^:\s]+):(\d+)([*%]*)([#?@]|\.[\w.]+)?(\^?)")


class UnknownKind(ValueError):
    """A kind whose protobuf form is not in the table."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message. `type` is "", "#", "?", "@" or a message's name."""

    name: str
    type: str
    is_list: bool
    is_map: bool
    keeps_zero: bool


Message = dict[int, Field]


def decode(raw: bytes) -> Object:
    """The object in a body. Raises UnknownKind, or ValueError when it is damaged."""
    if not raw.startswith(MAGIC):
        raise ValueError("the magic bytes k8s\\0 are missing")
    api_version = kind = ""
    content = b""
    for number, value in _fields(raw[len(MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            for part, text in _fields(value):
                if part == 1 and isinstance(text, bytes):
                    api_version = text.decode()
                elif part == 2 and isinstance(text, bytes):
                    kind = text.decode()
        elif number == 2 and isinstance(value, bytes):
            content = value
    name = message_name(api_version, kind)
    if name is None:
        raise UnknownKind(f"mesh local has no protobuf form of {kind} in {api_version}: send JSON")
    found = _message(_table()[name], content, 0)
    return {"apiVersion": api_version, "kind": kind, **found}


def message_name(api_version: str, kind: str) -> str | None:
    """The table's name of a kind; DeleteOptions is the same in each group."""
    if kind == "DeleteOptions":
        return "metav1.DeleteOptions"
    name = f"{_PACKAGES.get(api_version)}.{kind}"
    return name if name in _table() else None


@lru_cache(maxsize=1)
def _table() -> dict[str, Message]:
    found: dict[str, Message] = {}
    for entry in re.split(r"\n(?! )", TABLE.strip()):
        name, *words = entry.split()
        message: Message = {}
        for word in words:
            match = _FIELD.fullmatch(word)
            if match is None:
                raise ValueError(f"the protobuf table is damaged at {name}: {word}")
            type_ = (match[4] or "").removeprefix(".")
            message[int(match[2])] = Field(
                match[1], type_, match[3] == "*", match[3].startswith("%"), match[5] == "^"
            )
        found[name] = message
    return found


def _message(message: Message, raw: bytes, depth: int) -> Object:
    if depth > MAX_DEPTH:
        raise ValueError("the message is nested too deeply")
    found: Object = {}
    for number, value in _fields(raw):
        field = message.get(number)
        if field is None:
            continue
        if field.name == "!":
            found.update(_value(field, value, depth))
        elif field.is_map:
            key, item = _entry(field, value, depth)
            found.setdefault(field.name, {})[key] = item
        elif field.is_list:
            found.setdefault(field.name, []).append(_value(field, value, depth))
        else:
            decoded = _value(field, value, depth)
            if decoded is not None and (field.keeps_zero or decoded not in ("", 0, {}, False)):
                found[field.name] = decoded
    return found


def _entry(field: Field, raw: int | bytes, depth: int) -> tuple[str, Any]:
    key: str = ""
    item: Any = b""
    for number, value in _fields(_bytes(raw)):
        if number == 1:
            key = _bytes(value).decode()
        elif number == 2:
            item = value
    return key, _value(field, item, depth)


def _value(field: Field, value: int | bytes, depth: int) -> Any:
    match field.type:
        case "":
            return _bytes(value).decode()
        case "#":
            return _signed(value)
        case "?":
            return bool(value)
        case "@":
            return base64.b64encode(_bytes(value)).decode()
        case "metav1.Time" | "metav1.MicroTime":
            return _time(_bytes(value), micro=field.type.endswith("MicroTime"))
        case "IntOrString":
            return _int_or_string(_bytes(value))
        case "Quantity":
            return _text(_bytes(value))
        case "RawExtension" | "metav1.FieldsV1":
            return json.loads(_text(_bytes(value)) or "null")
        case "ExtraValue":
            return [_bytes(item).decode() for number, item in _fields(_bytes(value)) if number == 1]
        case name:
            return _message(_table()[name], _bytes(value), depth + 1)


def _text(raw: bytes) -> str:
    for number, value in _fields(raw):
        if number == 1:
            return _bytes(value).decode()
    return ""


def _time(raw: bytes, *, micro: bool) -> str | None:
    seconds = nanos = 0
    for number, value in _fields(raw):
        if number == 1:
            seconds = _signed(value)
        elif number == 2:
            nanos = _signed(value)
    if seconds <= 0:
        return None  # Go's zero time
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, OSError) as error:
        raise ValueError("a time is out of range") from error
    return f"{text}.{nanos // 1000:06d}Z" if micro else f"{text}Z"


def _int_or_string(raw: bytes) -> int | str:
    kind, number_value, text = 0, 0, ""
    for number, value in _fields(raw):
        if number == 1:
            kind = _signed(value)
        elif number == 2:
            number_value = _signed(value)
        elif number == 3:
            text = _bytes(value).decode()
    return text if kind == 1 else number_value


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message as they come: varints and fixed numbers as int, else bytes."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(raw, position)
            yield number, value
            continue
        if wire == 2:
            size, position = _varint(raw, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if position + size > len(raw):
            raise ValueError("the message ends too early")
        chunk = raw[position : position + size]
        position += size
        yield number, chunk if wire == 2 else int.from_bytes(chunk, "little")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(raw) or shift > 63:
            raise ValueError("the message ends in a number")
        byte = raw[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("expected bytes, got a number")
    return value


def _signed(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("expected a number, got bytes")
    return value - (1 << 64) if value >= 1 << 63 else value
