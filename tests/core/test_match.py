"""Which conditions a request head meets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.match import (
    compile_condition,
    compile_matches,
    compile_names,
    compile_response_classes,
    is_failure,
    parameter,
)
from mesh.core.model import Condition, HeaderMatch, Match, QueryMatch, ResponseClass, RouteClass


@dataclass
class Head:
    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: dict[str, list[str]] = field(default_factory=dict)

    def values(self, name: str, /) -> Sequence[str]:
        return self.headers.get(name, ())


def pattern(text: str) -> Callable[[str], bool]:
    """Python's engine stands in for the linear-time one."""
    compiled = re.compile(text)
    return lambda value: compiled.fullmatch(value) is not None


def meets(match: Match, head: Head) -> bool:
    test = compile_matches([match], pattern)
    return test is None or test(head)


@pytest.mark.parametrize(
    ("condition", "head", "expected"),
    [
        (Condition(path="/a"), Head(path="/a"), True),
        (Condition(path="/a"), Head(path="/a/b"), False),
        (Condition(path_regex="/a/[^/]+"), Head(path="/a/b"), True),
        (Condition(path_regex="/a"), Head(path="/a/b"), False),
        (Condition(method="POST"), Head(method="POST"), True),
        (Condition(path="/a", method="POST"), Head(method="GET", path="/a"), False),
        (Condition(all=(Condition(path="/a"), Condition(method="GET"))), Head(path="/a"), True),
        (Condition(all=()), Head(), True),
        (Condition(any=(Condition(path="/a"), Condition(path="/b"))), Head(path="/b"), True),
        (Condition(any=()), Head(), False),
        (Condition(negated=Condition(path="/a")), Head(path="/a"), False),
        (Condition(negated=Condition(path="/a")), Head(path="/b"), True),
        (Condition(status_min=500), Head(), False),
        (Condition(), Head(), True),
    ],
)
def test_a_route_condition_is_a_tree(condition: Condition, head: Head, expected: bool) -> None:
    assert compile_condition(condition, pattern)(head) is expected


@pytest.mark.parametrize(
    ("match", "head", "expected"),
    [
        (Match(), Head(), True),
        (Match(path="/a"), Head(path="/a"), True),
        (Match(path_prefix="/a"), Head(path="/a/b"), True),
        (Match(path_prefix="/a"), Head(path="/ab"), False),
        (Match(path_prefix="/a/"), Head(path="/a"), True),
        (Match(path_prefix="/"), Head(path="/x"), True),
        (Match(path_regex="/v[12]/.*"), Head(path="/v2/x"), True),
        (Match(method="GET", path="/a"), Head(method="PUT", path="/a"), False),
        (
            Match(headers=(HeaderMatch("X-Canary", "yes"),)),
            Head(headers={"x-canary": ["no", "yes"]}),
            True,
        ),
        (Match(headers=(HeaderMatch("x-canary", "yes"),)), Head(), False),
        (
            Match(headers=(HeaderMatch("user-agent", ".*Firefox.*", regex=True),)),
            Head(headers={"user-agent": ["A Firefox"]}),
            True,
        ),
        (Match(path_start="/api"), Head(path="/apis/x"), True),
        (Match(path="/Items", ignore_case=True), Head(path="/itemS"), True),
        (Match(path_prefix="/Items", ignore_case=True), Head(path="/ITEMS/1"), True),
        (Match(path_start="/It", ignore_case=True), Head(path="/ITEMS"), True),
        (Match(without_headers=(HeaderMatch("X-A", "1"),)), Head(headers={"x-a": ["1"]}), False),
        (Match(without_headers=(HeaderMatch("X-A", "1"),)), Head(), True),
        (Match(query=(QueryMatch("a", "1"),)), Head(query="b=2&a=1"), True),
        (Match(query=(QueryMatch("a", "1"),)), Head(query="a=2&a=1"), False),
        (Match(query=(QueryMatch("a b", "é"),)), Head(query="a%20b=%C3%A9"), True),
        (Match(query=(QueryMatch("A", "1"),)), Head(query="a=1"), False),
        (Match(query=(QueryMatch("a", ""),)), Head(query="a"), True),
        (Match(query=(QueryMatch("", ""),)), Head(query=""), False),
        (Match(query=(QueryMatch("a", "[0-9]+", regex=True),)), Head(query="a=17"), True),
        (Match(query=(QueryMatch("a", ".*", regex=True),)), Head(query="b=17"), False),
        (Match(path_prefix="/a", also=Match(path_regex="/a/.")), Head(path="/a/b"), True),
        (Match(path_prefix="/a", also=Match(path_regex="/a/.")), Head(path="/a/bc"), False),
        (Match(also=Match()), Head(), True),
    ],
)
def test_a_match_needs_all_its_parts(match: Match, head: Head, expected: bool) -> None:
    assert meets(match, head) is expected


def test_any_of_several_matches_is_enough() -> None:
    test = compile_matches([Match(path="/a"), Match(path="/b")], pattern)

    assert test is not None
    assert [test(Head(path=path)) for path in ("/a", "/b", "/c")] == [True, True, False]


def test_a_rule_that_every_request_meets_needs_no_test() -> None:
    assert compile_matches([], pattern) is None
    assert compile_matches([Match(path="/a"), Match()], pattern) is None


def test_response_classes_are_tried_in_order() -> None:
    route = RouteClass(
        "r",
        Condition(),
        (
            ResponseClass(Condition(status_min=404, status_max=404), is_failure=False),
            ResponseClass(Condition(status_min=400, status_max=499)),
            ResponseClass(Condition(status_min=503), is_failure=False),
            ResponseClass(Condition(negated=Condition(status_min=100, status_max=599))),
        ),
    )
    found = compile_response_classes(route)

    assert [found(status) for status in (404, 403, 503, 504, 700, 200)] == [
        False,
        True,
        False,
        None,
        True,
        None,
    ]
    assert is_failure(504, route.response_classes)
    assert not is_failure(503, route.response_classes)
    assert not is_failure(200, ())


def test_status_conditions_combine() -> None:
    classes = (
        ResponseClass(
            Condition(
                all=(
                    Condition(status_min=400, status_max=599),
                    Condition(any=(Condition(status_min=400), Condition(status_max=404))),
                )
            )
        ),
    )

    assert [is_failure(status, classes) for status in (400, 404, 405, 500)] == [
        True,
        True,
        False,
        True,  # the default class
    ]


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        (("a.example.com",), "a.example.com", True),
        (("A.example.com",), "a.example.com", True),
        (("a.example.com",), "b.example.com", False),
        (("*.example.com",), "b.example.com", True),
        (("*.example.com",), "c.b.example.com", True),
        (("*.example.com",), "example.com", False),
        (("*.example.com", "example.org"), "example.org", True),
        (("a.example.com",), "", False),
    ],
)
def test_server_names_are_exact_or_below_a_domain(
    names: tuple[str, ...], name: str, expected: bool
) -> None:
    test = compile_names([Match(sni=names)])

    assert test is not None
    assert test(name) is expected
    assert compile_names([Match(sni=names), Match()]) is None


@given(st.text(alphabet="%+a4fEC3A9é \ud800"))
def test_parameters_are_decoded_as_the_standard_library_does(text: str) -> None:
    assert parameter(f"a={text}", "a") == unquote_plus(text)
