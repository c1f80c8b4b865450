"""ServiceProfile of linkerd.io (v1alpha1, v1alpha2): route classes of one Service.

Read as Linkerd reads it, with the spellings that people write besides: `path` for an exact
path, `statusCode` for one status. A condition that does not read drops its route, since
without it the route would claim more requests than its author meant. What stands beside the
routes (budget, overrides, opaque ports) reads in `linkerd_extras`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from destination.dialects.linkerd_extras import (
    read_budget,
    read_opaque_ports,
    read_overrides,
)
from destination.dialects.reading import Reader, checked_regex, shown
from destination.facts import Key, Object, as_text
from destination.fragments import (
    ACCEPTED_SPELLING,
    EMPTY_CONDITION,
    INVALID_DURATION,
    INVALID_REGEX,
    INVALID_STATUS,
    MALFORMED,
    NO_SUCH_SERVICE,
    ProfileFragment,
    RejectedFragment,
)
from mesh.core import labels
from mesh.core.model import Condition, ResponseClass, RouteClass
from mesh.core.names import is_dns_label
from mesh.core.quantity import parse_duration

_SPEC: Final = ("routes", "retryBudget", "dstOverrides", "opaquePorts")
_ROUTE: Final = ("name", "condition", "responseClasses", "isRetryable", "timeout")
_REQUEST: Final = ("pathRegex", "path", "method", "all", "any", "not")
_RESPONSE: Final = ("status", "statusCode", "all", "any", "not")
_CLASS: Final = ("condition", "isFailure")
_DEEPEST: Final = 16  # levels of all, any and not
_SUFFIX: Final = "-profile"


def read_service_profile(
    profile: Object, resource: str, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> ProfileFragment | RejectedFragment:
    """Read a ServiceProfile. Never raises: what cannot be honoured is a Problem."""
    reader = Reader(profile, resource, "ServiceProfile")
    candidates, rank = profile_candidates(reader.key, cluster_domain)
    if not candidates:
        reader.reject(
            "metadata.name",
            NO_SUCH_SERVICE,
            "expected the name of a Service: its full name "
            f"(web.shop.svc.{cluster_domain}), web.shop, web or web-profile",
        )
    reader.unknown(reader.spec, "spec", _SPEC)
    routes = _routes(reader)
    budget = read_budget(reader)
    overrides = read_overrides(reader, cluster_domain)
    opaque = read_opaque_ports(reader)
    is_empty = not (routes or budget or overrides or opaque)
    if is_empty and reader.problems and not reader.is_rejected:
        reader.reject("spec", MALFORMED, "nothing in this profile can be honoured")
    problems = tuple(reader.problems)
    if reader.is_rejected:
        return RejectedFragment(reader.ref, reader.source, problems)
    return ProfileFragment(
        reader.ref,
        reader.source,
        candidates,
        rank,
        routes,
        reader.created,
        problems,
        budget,
        overrides,
        opaque,
    )


def profile_candidates(
    key: Key, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> tuple[tuple[Key, ...], int]:
    """The Services that a profile's name may mean, likeliest first, and how plain the name is.

    0 the full name, 1 `web.shop.svc`, 2 `web.shop`, 3 `web` or `web-profile` in its own
    namespace. No candidate: the name means no Service of this cluster.
    """
    namespace, name = key
    for rank, suffix in enumerate((f".svc.{cluster_domain}", ".svc", "")):
        if not name.endswith(suffix):
            continue
        service, dot, home = name.removesuffix(suffix).partition(".")
        if dot and is_dns_label(service) and is_dns_label(home):
            return ((home, service),), rank
        break
    if not is_dns_label(name):
        return (), 0
    if name.endswith(_SUFFIX) and name != _SUFFIX:
        return ((namespace, name), (namespace, name.removesuffix(_SUFFIX))), 3
    return ((namespace, name),), 3


def _routes(reader: Reader) -> tuple[RouteClass, ...]:
    routes = []
    for index, value in enumerate(reader.items(reader.spec.get("routes"), "spec.routes")):
        path = f"spec.routes[{index}]"
        if not isinstance(value, dict):
            reader.warn(path, MALFORMED, f"expected a mapping, got {shown(value)}")
            continue
        route = _route(reader, value, path)
        if route is not None:
            routes.append(route)
    return tuple(routes)


def _route(reader: Reader, route: Mapping[str, Any], path: str) -> RouteClass | None:
    """One route, or None when its condition does not read."""
    reader.unknown(route, path, _ROUTE)
    name = as_text(route.get("name"))
    if not name:
        name = f"route {path.removeprefix('spec.routes')}"
        reader.warn(f"{path}.name", MALFORMED, f'expected a name; metrics show "{name}"')
    retryable = route.get("isRetryable", False)
    if not isinstance(retryable, bool):
        reader.warn(f"{path}.isRetryable", MALFORMED, "expected true or false; not retried")
    condition = _request(reader, route.get("condition"), f"{path}.condition", 0)
    if condition is None:
        return None
    return RouteClass(
        name=name,
        condition=condition,
        response_classes=_response_classes(reader, route, path),
        timeout=_timeout(reader, route.get("timeout"), f"{path}.timeout"),
        retryable=retryable is True,
    )


def _timeout(reader: Reader, value: Any, path: str) -> float | None:
    """Seconds; None for no timeout, which 0 means as well."""
    if value is None or value == "":
        return None
    try:
        return parse_duration(value if isinstance(value, str) else shown(value)) or None
    except ValueError as error:
        reader.warn(path, INVALID_DURATION, f"{error}; the route has no timeout")
        return None


def _response_classes(
    reader: Reader, route: Mapping[str, Any], path: str
) -> tuple[ResponseClass, ...]:
    classes = []
    items = reader.items(route.get("responseClasses"), f"{path}.responseClasses")
    for index, value in enumerate(items):
        here = f"{path}.responseClasses[{index}]"
        found = reader.mapping(value, here)
        reader.unknown(found, here, _CLASS)
        is_failure = found.get("isFailure", False)
        if not isinstance(is_failure, bool):
            reader.warn(f"{here}.isFailure", MALFORMED, "expected true or false; class ignored")
            continue
        condition = _response(reader, found.get("condition"), f"{here}.condition", 0)
        if condition is not None:
            classes.append(ResponseClass(condition, is_failure))
    return tuple(classes)


def _request(reader: Reader, value: Any, path: str, depth: int) -> Condition | None:
    """A condition on requests, or None when any part of it does not read."""
    found = _condition_fields(reader, value, path, _REQUEST, depth, "route")
    if found is None:
        return None
    parts: list[Condition | None] = []
    if any(field in found for field in ("pathRegex", "path", "method")):
        parts.append(_plain_request(reader, found, path))
    parts += _composed(reader, found, path, depth, is_request=True)
    return _all_of(parts)


def _plain_request(reader: Reader, found: Mapping[str, Any], path: str) -> Condition | None:
    texts: dict[str, str | None] = {}
    for field in ("pathRegex", "path", "method"):
        texts[field] = as_text(found.get(field)) or None
        if field in found and texts[field] is None:
            reader.warn(f"{path}.{field}", MALFORMED, "expected text; the route is ignored")
            return None
    pattern, literal, method = texts["pathRegex"], texts["path"], texts["method"]
    if literal is not None:
        reader.warn(
            f"{path}.path",
            ACCEPTED_SPELLING,
            "taken as the exact path; Linkerd knows only pathRegex",
        )
    if pattern is not None and not _is_regex(reader, pattern, f"{path}.pathRegex"):
        return None
    method = None if method is None else method.upper()
    if literal is not None and pattern is not None:
        return Condition(
            all=(Condition(path=literal, method=method), Condition(path_regex=pattern))
        )
    return Condition(path=literal, path_regex=pattern, method=method)


def _is_regex(reader: Reader, pattern: str, path: str) -> bool:
    wrong = checked_regex(pattern)
    if wrong:
        reader.warn(path, INVALID_REGEX, f"{wrong}; the route is ignored")
    return not wrong


def _response(reader: Reader, value: Any, path: str, depth: int) -> Condition | None:
    """A condition on responses, or None when any part of it does not read."""
    found = _condition_fields(reader, value, path, _RESPONSE, depth, "class")
    if found is None:
        return None
    parts: list[Condition | None] = []
    if "status" in found:
        parts.append(_status(reader, found["status"], f"{path}.status"))
    if "statusCode" in found:
        reader.warn(
            f"{path}.statusCode",
            ACCEPTED_SPELLING,
            "taken as status with min and max equal, which is Linkerd's form",
        )
        code = found["statusCode"]
        here = f"{path}.statusCode"
        parts.append(_status_range(reader, code, code, here))
    parts += _composed(reader, found, path, depth, is_request=False)
    return _all_of(parts)


def _status(reader: Reader, value: Any, path: str) -> Condition | None:
    """`min` and `max`, inclusive. One alone means exactly that code, as Linkerd documents."""
    found = reader.mapping(value, path)
    if reader.unknown(found, path, ("min", "max")):
        return None
    low, high = found.get("min"), found.get("max")
    return _status_range(reader, high if low is None else low, low if high is None else high, path)


def _status_range(reader: Reader, low: Any, high: Any, path: str) -> Condition | None:
    low, high = _code(low), _code(high)
    if low is None or high is None or low > high:
        reader.warn(
            path, INVALID_STATUS, "expected codes from 100 to 599, min <= max; class ignored"
        )
        return None
    return Condition(status_min=low, status_max=high)


def _code(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    is_code = isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599
    return value if is_code else None


def _condition_fields(
    reader: Reader, value: Any, path: str, known: tuple[str, ...], depth: int, whole: str
) -> Mapping[str, Any] | None:
    """The fields of a condition, or None when it is empty, too deep or has unknown ones."""
    if depth > _DEEPEST:
        reader.warn(path, MALFORMED, f"nested deeper than {_DEEPEST}; the {whole} is ignored")
        return None
    found = reader.mapping(value, path)
    if reader.unknown(found, path, known):
        return None
    if not found:
        reader.warn(
            path, EMPTY_CONDITION, f"expected {', '.join(known[:3])}; the {whole} is ignored"
        )
        return None
    return found


def _composed(
    reader: Reader, found: Mapping[str, Any], path: str, depth: int, *, is_request: bool
) -> list[Condition | None]:
    """The conditions under `all`, `any` and `not`; None for one that does not read."""
    read = _request if is_request else _response
    parts: list[Condition | None] = []
    for field in ("all", "any"):
        if field not in found:
            continue
        here = f"{path}.{field}"
        items = reader.items(found[field], here)
        inner = [
            read(reader, item, f"{here}[{index}]", depth + 1) for index, item in enumerate(items)
        ]
        conditions = tuple(item for item in inner if item is not None)
        if not items:
            reader.warn(here, EMPTY_CONDITION, "expected at least one condition, got none")
        if not items or len(conditions) < len(inner):
            parts.append(None)
        elif field == "all":
            parts.append(Condition(all=conditions))
        else:
            parts.append(Condition(any=conditions))
    if "not" in found:
        negated = read(reader, found["not"], f"{path}.not", depth + 1)
        parts.append(None if negated is None else Condition(negated=negated))
    return parts


def _all_of(parts: list[Condition | None]) -> Condition | None:
    conditions = tuple(part for part in parts if part is not None)
    if len(conditions) < len(parts):
        return None
    return conditions[0] if len(conditions) == 1 else Condition(all=conditions)
