"""HTTPRoute, GRPCRoute, TLSRoute and TCPRoute of the Gateway API, bound to Services (GAMMA).

`policy.linkerd.io` HTTPRoute reads the same. Parents that are no Service belong to others and
are left alone: a route without a Service as parent is not ours at all. A rule whose match does
not read is dropped, since what is left of it would act on other requests than its author
meant; one whose filter cannot be done answers with an error (HTTPRouteFilter, ExtensionRef).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from destination.dialects.annotations import Annotations
from destination.dialects.gateway_backends import read_backend
from destination.dialects.gateway_filters import NO_PREFIX, read_filters
from destination.dialects.gateway_matches import read_matches
from destination.dialects.reading import Reader, shown
from destination.facts import Key, Object, as_list, as_mapping, as_text
from destination.fragments import (
    ACCEPTED_SPELLING,
    IGNORED_FIELD,
    INVALID_DURATION,
    INVALID_VALUE,
    MALFORMED,
    NO_WEIGHT,
    NOT_SUPPORTED,
    UNREACHABLE,
    Parent,
    RejectedFragment,
    RouteFragment,
    RouteKind,
    RouteRule,
)
from mesh.core import labels
from mesh.core.model import Match, Policy, Retry
from mesh.core.quantity import parse_duration

KINDS: Final = {
    "GRPCRoute": RouteKind.GRPC,
    "HTTPRoute": RouteKind.HTTP,
    "TLSRoute": RouteKind.TLS,
    "TCPRoute": RouteKind.TCP,
}
_SPEC: Final = ("parentRefs", "hostnames", "rules", "useDefaultGateways")
_PARENT: Final = ("group", "kind", "namespace", "name", "sectionName", "port")
_RULE: Final = {
    RouteKind.HTTP: (
        *("name", "matches", "filters", "backendRefs"),
        *("timeouts", "retry", "sessionPersistence"),
    ),
    RouteKind.GRPC: ("name", "matches", "filters", "backendRefs", "sessionPersistence"),
    RouteKind.TLS: ("name", "backendRefs"),
    RouteKind.TCP: ("name", "backendRefs"),
}
_GROUPS: Final = ("", "core")
_LINKERD: Final = "policy.linkerd.io"
_MOST_RULES: Final = 128
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_HOSTNAME: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")  # RFC 1123
_IPV4: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def read_route(
    route: Object, resource: str, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> RouteFragment | RejectedFragment:
    """Read a route. Never raises: what cannot be honoured is a Problem."""
    kind_name = as_text(route.get("kind"))
    kind = KINDS[kind_name]
    reader = Reader(route, resource, kind_name)
    parents, others = read_parents(reader), _linkerd_parents(reader)
    if others and not parents:
        return RejectedFragment(reader.ref, reader.source, tuple(reader.problems), others)
    if not parents:  # somebody else's: nothing to say about it
        return RouteFragment(reader.ref, reader.source, kind, (), ())
    reader.unknown(reader.spec, "spec", _SPEC)
    if "useDefaultGateways" in reader.spec:
        reader.warn(
            "spec.useDefaultGateways", IGNORED_FIELD, "concerns gateways, not Services; no effect"
        )
    names = _hostnames(reader, kind)
    notes = Annotations(reader.annotations, reader.source, breaks=False)
    annotated = notes.policy()
    reader.problems += notes.problems
    rules, dropped = _rules(reader, kind, names, annotated, cluster_domain)
    if not rules and not reader.is_rejected:
        reader.reject("spec.rules", MALFORMED, "no rule of this route can be honoured")
    problems = tuple(reader.problems)
    if reader.is_rejected:
        return RejectedFragment(reader.ref, reader.source, problems, parents)
    return RouteFragment(
        ref=reader.ref,
        source=reader.source,
        kind=kind,
        parents=parents,
        rules=rules,
        created=reader.created,
        problems=problems,
        is_annotated=notes.has_policy,
        dropped=dropped,
    )


def service_parents(route: Object) -> tuple[Key, ...]:
    """The Services that a route names as parents."""
    return tuple(parent.service for parent in read_parents(Reader(route, "", "")))


def read_parents(reader: Reader) -> tuple[Parent, ...]:
    """The Services among the parents of a route."""
    found = []
    home = reader.key[0]
    for index, value in enumerate(as_list(reader.spec.get("parentRefs"))):
        ref = as_mapping(value)
        if ref.get("kind") != "Service" or not as_text(ref.get("name")):
            continue
        path = f"spec.parentRefs[{index}]"
        group = ref.get("group")
        if group not in _GROUPS:
            if group is not None and group != reader.ref.resource.partition(".")[2]:
                continue
            reader.warn(f"{path}.group", ACCEPTED_SPELLING, 'taken as "", the group of Services')
        reader.unknown(ref, path, _PARENT)
        port = ref.get("port")
        number = port if isinstance(port, int) and not isinstance(port, bool) else None
        if port is not None and number is None:
            reader.reject(f"{path}.port", MALFORMED, f"expected a port, got {shown(port)}")
        found.append(
            Parent(
                service=(as_text(ref.get("namespace")) or home, as_text(ref["name"])),
                index=index,
                ref={name: ref[name] for name in _PARENT if name in ref},
                port=number,
                section=as_text(ref.get("sectionName")),
            )
        )
    return tuple(found)


def _linkerd_parents(reader: Reader) -> tuple[Parent, ...]:
    """Linkerd's own kinds among the parents, which have no effect here."""
    found = []
    for index, ref in enumerate(map(as_mapping, as_list(reader.spec.get("parentRefs")))):
        if ref.get("group") != _LINKERD or ref.get("kind") == "Service":
            continue
        path = f"spec.parentRefs[{index}]"
        kind = shown(ref.get("kind"))
        reader.warn(path, NOT_SUPPORTED, f"{kind} as a parent is not supported: no effect there")
        told = {name: ref[name] for name in _PARENT if name in ref}
        found.append(Parent((reader.key[0], as_text(ref.get("name"))), index, told))
    return tuple(found)


def _hostnames(reader: Reader, kind: RouteKind) -> tuple[str, ...]:
    """Server names of a TLSRoute. Those of other kinds mean nothing for a Service (GEP-1426)."""
    names = reader.items(reader.spec.get("hostnames"), "spec.hostnames")
    if not names:
        return ()
    if kind is not RouteKind.TLS:
        message = "means nothing for a Service as parent; match the Host header instead"
        reader.warn("spec.hostnames", IGNORED_FIELD, message)
        return ()
    texts = []
    for index, name in enumerate(names):
        text = as_text(name).lower()
        if _HOSTNAME.fullmatch(text) and not _IPV4.fullmatch(text):
            texts.append(text)
        else:
            message = f"expected a name such as db.example.com or *.example.com, got {shown(name)}"
            reader.warn(f"spec.hostnames[{index}]", INVALID_VALUE, f"{message}: it is never met")
    if not texts:
        reader.reject("spec.hostnames", MALFORMED, "none of these is the name of a server")
    return tuple(texts)


def _rules(
    reader: Reader,
    kind: RouteKind,
    names: tuple[str, ...],
    annotated: Policy | None,
    cluster_domain: str,
) -> tuple[tuple[RouteRule, ...], tuple[int, ...]]:
    items = reader.items(reader.spec.get("rules"), "spec.rules")
    if not items and kind in (RouteKind.HTTP, RouteKind.GRPC):
        items = [{}]  # the API's default: one rule that every request meets
    if len(items) > _MOST_RULES:
        reader.reject("spec.rules", MALFORMED, f"expected at most {_MOST_RULES} rules")
        return (), ()
    rules: list[RouteRule] = []
    dropped: list[int] = []
    for index, value in enumerate(items):
        path = f"spec.rules[{index}]"
        if not isinstance(value, dict):
            reader.warn(path, MALFORMED, f"expected a mapping, got {shown(value)}")
            dropped.append(index)
            continue
        rule = _rule(reader, kind, value, index, names, annotated, cluster_domain)
        if rule is None:
            dropped.append(index)
        elif rules and kind in (RouteKind.TLS, RouteKind.TCP):
            message = f"this rule is never met: rules[{rules[0].index}] takes every connection"
            reader.warn(path, UNREACHABLE, message)
        else:
            rules.append(rule)
    return tuple(rules), tuple(dropped)


def _rule(
    reader: Reader,
    kind: RouteKind,
    rule: Mapping[str, Any],
    index: int,
    names: tuple[str, ...],
    annotated: Policy | None,
    cluster_domain: str,
) -> RouteRule | None:
    """One rule, or None when its matches do not read."""
    path = f"spec.rules[{index}]"
    reader.unknown(rule, path, _RULE[kind])
    if rule.get("sessionPersistence"):
        reader.warn(
            f"{path}.sessionPersistence",
            NOT_SUPPORTED,
            "requests of one session go to any endpoint",
        )
    matches: tuple[Match, ...] = (Match(sni=names),) if names else ()
    if kind in (RouteKind.HTTP, RouteKind.GRPC):
        found = read_matches(reader, kind, rule.get("matches"), f"{path}.matches")
        if found is None:
            return None
        matches = found
    filters = read_filters(reader, kind, rule.get("filters"), f"{path}.filters", cluster_domain)
    refused = filters.refused or _unfit(reader, filters.needs_prefix, matches, f"{path}.filters")
    refs = reader.items(rule.get("backendRefs"), f"{path}.backendRefs")
    backends = [
        read_backend(reader, kind, ref, f"{path}.backendRefs[{at}]", cluster_domain, matches)
        for at, ref in enumerate(refs)
    ]
    if refs and not any(backend.weight for backend, _ in backends):
        message = "all weights are 0: every request is answered with 500"
        reader.warn(f"{path}.backendRefs", NO_WEIGHT, message)
    return RouteRule(
        index=index,
        matches=matches,
        backends=tuple(backend for backend, _ in backends),
        mirrors=(*filters.mirrors, *(mirror for _, mirrors in backends for mirror in mirrors)),
        name=as_text(rule.get("name")),
        filters=filters.filters,
        policy=_policy(reader, rule, path, annotated),
        refused=refused,
    )


def _unfit(reader: Reader, needs_prefix: bool, matches: tuple[Match, ...], path: str) -> str:
    """A prefix can only be replaced where every match has one (HTTPPathModifier)."""
    if not needs_prefix or all(match.path_prefix is not None for match in matches):
        return ""
    message = "ReplacePrefixMatch needs matches of type PathPrefix; requests are answered with 500"
    reader.warn(path, NO_PREFIX, message)
    return NO_PREFIX


def _policy(
    reader: Reader, rule: Mapping[str, Any], path: str, annotated: Policy | None
) -> Policy | None:
    """What a rule says of timeouts and retries; where it is silent, what its route's
    annotations say."""
    timeouts = reader.mapping(rule.get("timeouts"), f"{path}.timeouts")
    reader.unknown(timeouts, f"{path}.timeouts", ("request", "backendRequest"))
    request = _duration(reader, timeouts, f"{path}.timeouts", "request")
    attempt = _duration(reader, timeouts, f"{path}.timeouts", "backendRequest")
    retry = _retry(reader, rule.get("retry"), f"{path}.retry")
    if request and attempt and attempt > request:
        message = "is longer than the whole request may take, which ends it first"
        reader.warn(f"{path}.timeouts.backendRequest", INVALID_VALUE, message)
    base = annotated or Policy()
    policy = Policy(
        request=base.request if request is None else request,
        attempt=attempt,
        headers=base.headers,
        response=base.response,
        idle=base.idle,
        stream=base.stream,
        retry=base.retry if retry is None else retry,
    )
    return None if policy == Policy() else policy


def _duration(reader: Reader, found: Mapping[str, Any], path: str, name: str) -> float | None:
    """Seconds; None when not given, 0 when switched off."""
    value = found.get(name)
    if value is None:
        return None
    try:
        return parse_duration(value if isinstance(value, str) else shown(value))
    except ValueError as error:
        reader.warn(f"{path}.{name}", INVALID_DURATION, f"{error}; no timeout")
        return None


def _retry(reader: Reader, value: Any, path: str) -> Retry | None:
    """GEP-1731: `codes`, `attempts` (one where nothing is said), `backoff`."""
    if value is None:
        return None
    found = reader.mapping(value, path)
    reader.unknown(found, path, ("codes", "attempts", "backoff"))
    codes = []
    for index, code in enumerate(reader.items(found.get("codes"), f"{path}.codes")):
        if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
            codes.append((code, code))
        else:
            message = f"expected a code from 400 to 599, got {shown(code)}; it is ignored"
            reader.warn(f"{path}.codes[{index}]", INVALID_VALUE, message)
    attempts = found.get("attempts", 1)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 0 <= attempts <= 100:
        message = f"expected a number from 0 to 100, got {shown(attempts)}; 1 is taken"
        reader.warn(f"{path}.attempts", INVALID_VALUE, message)
        attempts = 1
    plain = Retry()
    backoff = _duration(reader, found, path, "backoff") or plain.backoff
    return Retry(
        limit=attempts,
        statuses=tuple(codes),
        on_reset=True,
        on_timeout=True,
        backoff=backoff,
        max_backoff=max(plain.max_backoff, 10 * backoff),
    )
