"""Filters, timeouts and retries of routes: what is taken, and what is answered with an error."""

from __future__ import annotations

import pytest

from destination.fragments import Outcome
from mesh.core.model import (
    Cors,
    Filters,
    HeaderEdit,
    Mirror,
    PathChange,
    Policy,
    Redirect,
    Retry,
    Rewrite,
    Rule,
    Verdict,
)
from tests.destination.routing import (
    V1,
    WEB,
    authority,
    route,
    rules,
    world,
)
from tests.destination.world import (
    reasons,
    service,
)

# -- filters -----------------------------------------------------------------------------


def filters_of(text: str, match: str = "{path: {value: /old/}}") -> tuple[Rule, Outcome]:
    found = world(route(f"[{{matches: [{match}], filters: {text}, {V1}}}]"))
    return rules(found)[0], found.outcome("httproutes", "web")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: a},"
            " {name: x-a, value: b}], add: [{name: B, value: b}], remove: [C]}}]",
            Filters(request=HeaderEdit((("x-a", "a"),), (("b", "b"),), ("c",))),
        ),
        (
            "[{type: ResponseHeaderModifier,"
            " responseHeaderModifier: {set: [{name: a, value: b}]}}]",
            Filters(response=HeaderEdit((("a", "b"),))),
        ),
        (
            "[{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example,"
            " port: 8443, statusCode: 307, path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
            Filters(
                redirect=Redirect("https", "a.example", 8443, PathChange(full="/x"), status=307)
            ),
        ),
        (
            "[{type: URLRewrite, urlRewrite: {hostname: b.example,"
            " path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]",
            Filters(rewrite=Rewrite("b.example", PathChange(prefix="/new", matched="/old/"))),
        ),
        (
            "[{type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 80}}},"
            " {type: RequestMirror,"
            " requestMirror: {percent: 5, backendRef: {name: web, port: 80}}},"
            " {type: RequestMirror, requestMirror: {fraction: {numerator: 1, denominator: 8},"
            " backendRef: {name: web, port: 80}}}]",
            Filters(
                mirrors=(
                    Mirror(authority("web-v2")),
                    Mirror(authority("web"), 0.05),
                    Mirror(authority("web"), 0.125),
                )
            ),
        ),
        (
            "[{type: CORS, cors: {allowOrigins: ['https://*.example'], allowMethods: [GET],"
            " allowHeaders: [a], exposeHeaders: [b], allowCredentials: true, maxAge: 60}}]",
            Filters(cors=Cors(("https://*.example",), ("GET",), ("a",), ("b",), True, 60)),
        ),
    ],
)
def test_each_filter_is_taken(text: str, expected: Filters) -> None:
    rule, outcome = filters_of(text)

    assert rule.filters == expected
    assert outcome.verdict is Verdict.EFFECTIVE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[{type: ExtensionRef, extensionRef: {name: x}}]", "UnsupportedFilter"),
        ("[{type: Odd}]", "UnsupportedFilter"),
        ("[{type: CORS}]", "InvalidFilter"),
        ("[{type: RequestRedirect, requestRedirect: {statusCode: 200}}]", "InvalidFilter"),
        ("[{type: RequestRedirect, requestRedirect: {hostname: 'a b'}}]", "InvalidFilter"),
        ("[{type: RequestRedirect, requestRedirect: {hostname: 'a\\r\\nb: c'}}]", "InvalidFilter"),
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Content-Length]}}]",
            "InvalidFilter",
        ),
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier:"
            ' {set: [{name: a, value: "b\\r\\nc: d"}]}}]',
            "InvalidFilter",
        ),
        (
            "[{type: RequestHeaderModifier,"
            " requestHeaderModifier: {set: [{name: 'a:', value: b}]}}]",
            "InvalidFilter",
        ),
        (
            "[{type: RequestRedirect, requestRedirect: {}},"
            " {type: URLRewrite, urlRewrite: {hostname: a}}]",
            "InvalidFilter",
        ),
        (
            "[{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {}}]",
            "InvalidFilter",
        ),
        ("[{type: CORS, cors: {allowOrigin: [a]}}]", "UnknownField"),
    ],
)
def test_a_filter_that_cannot_be_done_is_answered_with_an_error(text: str, reason: str) -> None:
    rule, outcome = filters_of(text)

    assert rule.filters is None
    assert [bool(backend.refused) for backend in rule.backends] == [True]
    assert rule.failure == 500
    assert reason in [found for _, found in reasons(outcome)]
    assert outcome.verdict is Verdict.PARTIAL


def test_a_prefix_is_only_replaced_where_one_is_matched() -> None:
    change = (
        "[{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch,"
        " replacePrefixMatch: /new}}}]"
    )

    rule, outcome = filters_of(change, "{path: {type: Exact, value: /old}}")

    assert rule.backends[0].refused
    assert ("spec.rules[0].filters", "InvalidFilter") in reasons(outcome)


def test_filters_of_a_backend_stay_with_it() -> None:
    found = world(
        route("""
- backendRefs:
  - name: web-v1
    port: 80
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: v, value: "1"}]}}]
  - name: web-v2
    port: 80
    filters: [{type: ExtensionRef, extensionRef: {name: x}}]
""")
    )

    first, second = rules(found)[0].backends

    assert first.filters == Filters(request=HeaderEdit((("v", "1"),)))
    assert (bool(second.refused), second.filters) == (True, None)


def test_the_services_of_mirrors_come_with_the_view() -> None:
    found = world(
        route(
            "[{filters: [{type: RequestMirror, requestMirror:"
            " {backendRef: {name: web-v2, port: 80}}}]}]"
        )
    )

    assert sorted(item.name for item in found.services(WEB)) == ["web", "web-v2"]


# -- timeouts and retries ----------------------------------------------------------------


def test_timeouts_and_retries_of_a_rule_are_taken() -> None:
    found = world(
        route("""
- timeouts: {request: 2s, backendRequest: 500ms}
  retry: {codes: [503, 504], attempts: 3, backoff: 100ms}
""")
    )

    assert rules(found)[0].policy == Policy(
        request=2,
        attempt=0.5,
        retry=Retry(
            limit=3,
            statuses=((503, 503), (504, 504)),
            on_reset=True,
            on_timeout=True,
            backoff=0.1,
            max_backoff=1.0,
        ),
    )


def test_a_timeout_of_0_is_said_to_be_none() -> None:
    assert rules(world(route("[{timeouts: {request: 0s}}]")))[0].policy == Policy(request=0)


@pytest.mark.parametrize(
    ("rule", "path", "reason"),
    [
        ("timeouts: {request: soon}", "timeouts.request", "InvalidDuration"),
        ("timeouts: {request: 1s, backendRequest: 2s}", "timeouts.backendRequest", "InvalidValue"),
        ("timeouts: {idle: 1s}", "timeouts.idle", "UnknownField"),
        ("retry: {codes: [200]}", "retry.codes[0]", "InvalidValue"),
        ("retry: {attempts: -1}", "retry.attempts", "InvalidValue"),
        ("sessionPersistence: {sessionName: a}", "sessionPersistence", "NotSupported"),
        ("retries: 3", "retries", "UnknownField"),
    ],
)
def test_what_does_not_read_of_them_is_said(rule: str, path: str, reason: str) -> None:
    outcome = world(route(f"[{{{rule}}}]")).outcome("httproutes", "web")

    assert reasons(outcome) == [(f"spec.rules[0].{path}", reason)]
    assert outcome.verdict is Verdict.PARTIAL


def test_annotations_of_a_route_fill_what_its_rules_leave_open() -> None:
    found = world(
        route(
            "[{timeouts: {request: 1s}}, {matches: [{method: PUT}]}]",
            annotations={"timeout.linkerd.io/request": "9s", "retry.linkerd.io/http": "5xx"},
        )
    )

    put, rest = rules(found)

    assert put.policy is not None
    assert rest.policy is not None
    assert (put.policy.request, rest.policy.request) == (9, 1)
    assert put.policy.retry == rest.policy.retry
    assert put.policy.retry is not None
    assert put.policy.retry.statuses == ((500, 599),)


def test_a_route_with_annotations_replaces_those_of_the_service() -> None:
    notes = {"timeout.linkerd.io/idle": "5s"}
    plain = route("[{matches: [{method: GET}]}]", name="plain")
    noted = route("[{}]", name="noted", annotations={"retry.linkerd.io/http": "503"})
    found = world(plain, noted, service("web", annotations=notes))

    first, second = rules(found)

    assert first.defaults == Policy(idle=5)
    assert second.defaults is None
