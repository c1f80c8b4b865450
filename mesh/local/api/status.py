"""The errors of the Kubernetes API, each as one function, and the `Status` object of any.

The words follow the real API server's, since users and kubectl match on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.resources import Object, Resource


class StatusError(ApiError):
    """An ApiError that carries the `details` of its Status object as well."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, reason, message, retry_after)
        self.details: Mapping[str, Any] = details or {}


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong field: `kind` is the words of the message, such as `Required value`."""

    field: str
    kind: str
    detail: str = ""
    value: Any = None
    has_value: bool = False

    def __str__(self) -> str:
        parts = [self.kind]
        if self.has_value:
            parts.append(_shown(self.value))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)


_REASONS = {
    "Required value": "FieldValueRequired",
    "Invalid value": "FieldValueInvalid",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Forbidden": "FieldValueForbidden",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
    "Not found": "FieldValueNotFound",
}


def required(field: str, detail: str = "") -> Fault:
    return Fault(field, "Required value", detail)


def bad(field: str, value: Any, detail: str = "") -> Fault:
    return Fault(field, "Invalid value", detail, value, True)


def unsupported(field: str, value: Any, known: Sequence[str]) -> Fault:
    names = ", ".join(f'"{name}"' for name in known)
    return Fault(field, "Unsupported value", f"supported values: {names}", value, True)


def duplicate(field: str, value: Any) -> Fault:
    return Fault(field, "Duplicate value", "", value, True)


def forbidden_field(field: str, detail: str) -> Fault:
    return Fault(field, "Forbidden", detail)


def not_found(resource: Resource | str, name: str) -> StatusError:
    plural, group = _names(resource)
    full = f"{plural}.{group}" if group else plural
    return StatusError(
        404,
        "NotFound",
        f'{full} "{name}" not found',
        details=_details(name=name, group=group, kind=plural),
    )


def no_such_thing(what: str) -> StatusError:
    """The answer to what the embedded cluster leaves out."""
    return StatusError(404, "NotFound", f"mesh local has no {what}")


def already_exists(resource: Resource | str, name: str) -> StatusError:
    plural, group = _names(resource)
    full = f"{plural}.{group}" if group else plural
    return StatusError(
        409,
        "AlreadyExists",
        f'{full} "{name}" already exists',
        details=_details(name=name, group=group, kind=plural),
    )


def conflict(resource: Resource | str, name: str, why: str = "") -> StatusError:
    plural, group = _names(resource)
    full = f"{plural}.{group}" if group else plural
    why = why or (
        "the object has been modified; please apply your changes to the latest version "
        "and try again"
    )
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {full} "{name}": {why}',
        details=_details(name=name, group=group, kind=plural),
    )


def invalid(group: str, kind: str, name: str, faults: Sequence[Fault]) -> StatusError:
    texts = [f"{fault.field}: {fault}" for fault in faults]
    message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    full = f"{kind}.{group}" if group else kind
    causes = [
        {"reason": _REASONS.get(f.kind, "FieldValueInvalid"), "message": str(f), "field": f.field}
        for f in faults
    ]
    return StatusError(
        422,
        "Invalid",
        f'{full} "{name}" is invalid: {message}',
        details={**_details(name=name, group=group, kind=kind), "causes": causes},
    )


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def rejected() -> StatusError:
    """A patch that cannot be carried out; the real server says no more than this."""
    return StatusError(
        422, "Invalid", "the server rejected our request due to an error in our request"
    )


def forbidden(resource: Resource | str, name: str, why: str) -> StatusError:
    plural, group = _names(resource)
    full = f"{plural}.{group}" if group else plural
    return StatusError(
        403,
        "Forbidden",
        f'{full} "{name}" is forbidden: {why}',
        details=_details(name=name, group=group, kind=plural),
    )


def expired(since: int, oldest: int) -> StatusError:
    return StatusError(410, "Expired", f"too old resource version: {since} ({oldest})")


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def unsupported_media(message: str) -> StatusError:
    return StatusError(415, "UnsupportedMediaType", message)


def method_not_allowed() -> StatusError:
    return StatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def status_object(error: ApiError) -> Object:
    """The `Status` that the client sees for an error."""
    status: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
    }
    details = dict(getattr(error, "details", {}))
    if error.retry_after is not None:
        details["retryAfterSeconds"] = max(1, round(error.retry_after))
    if details:
        status["details"] = details
    status["code"] = error.code
    return status


def success(resource: Resource, name: str, uid: str = "") -> Object:
    """The `Status` that answers a delete which removed its object at once."""
    details = _details(name=name, group=resource.group, kind=resource.plural)
    if uid:
        details["uid"] = uid
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def _details(*, name: str, group: str, kind: str) -> dict[str, Any]:
    found = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in found.items() if value}


def _names(resource: Resource | str) -> tuple[str, str]:
    if isinstance(resource, Resource):
        return resource.plural, resource.group
    plural, _, group = resource.partition(".")
    return plural, group


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        import json

        return json.dumps(value, separators=(",", ":"))
    return str(value)
