"""mesh profile: each operation gets a route that its own requests meet."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from destination.dialects.linkerd import read_service_profile
from destination.fragments import ProfileFragment
from destination.store import PROFILES
from mesh.core.errors import ConfigError
from mesh.core.match import compile_condition
from mesh.explain.question import parse_question
from mesh.lint.commands import lint_files
from mesh.profile.commands import profile
from mesh.profile.openapi import read_openapi
from mesh.profile.proto import read_proto
from mesh.profile.routes import build_profile
from proxy.patterns import compile_pattern

PROTO = """
syntax = "proto3";
package shop.v1;  // service Hidden { rpc No (A) returns (A); }
message A { message rpc { string service = 1; } }
service Orders {
  rpc Get (A) returns (stream A) { option idempotency_level = NO_SIDE_EFFECTS; }
  /* rpc Old (A) returns (A); */
  rpc Put (stream A) returns (A);
}
service Stock { rpc Get (A) returns (A) {} }
"""


def routes_of(text: str) -> Any:
    return yaml.safe_load(text)["spec"]["routes"]


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(profile, [*arguments, "-n", "shop", "orders"], input=stdin)


segments = st.sampled_from(["items", "mine", "{id}", "{n}.json", "a.b", "v1"])
paths = st.lists(segments, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
methods = st.sampled_from(["get", "post", "delete"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(paths, st.dictionaries(methods, st.just({}), min_size=1), min_size=1))
def test_every_literal_path_meets_its_own_route(found: dict[str, Any]) -> None:
    routes = read_openapi({"openapi": "3.0.0", "paths": found})
    made = build_profile("orders", "shop", "cluster.local", routes)

    fragment = read_service_profile(made, PROFILES)

    assert isinstance(fragment, ProfileFragment)
    assert fragment.problems == ()
    tests = [(r.name, compile_condition(r.condition, compile_pattern)) for r in fragment.routes]
    for path, operations in found.items():
        if "{" not in path:
            for method in operations:
                head = parse_question(method.upper(), f"http://orders{path}", ()).head()
                assert next(n for n, test in tests if test(head)) == f"{method.upper()} {path}"


def test_the_longer_pattern_goes_first() -> None:
    found: dict[str, Any] = {"/items/{id}": {"get": {}}, "/items/{id}.json": {"get": {}}}

    made = build_profile("o", "shop", "c", read_openapi({"openapi": "3.0.0", "paths": found}))

    names = [route["name"] for route in made["spec"]["routes"]]
    assert names == ["GET /items/{id}.json", "GET /items/{id}"]


def test_openapi_2_and_3_give_the_same_routes() -> None:
    paths = {
        "/items/{id}": {
            "get": {
                "responses": {200: {}, "503": {}, "default": {}},
                "x-linkerd-retryable": True,
                "x-linkerd-timeout": "2s",
            }
        }
    }
    old = yaml.safe_dump({"swagger": "2.0", "basePath": "/v1", "paths": paths})
    new = yaml.safe_dump(
        {"openapi": "3.1.0", "servers": [{"url": "https://api.example/v1/"}], "paths": paths}
    )

    results = [run("--open-api", "-", stdin=text) for text in (old, new)]

    assert results[0].output == results[1].output
    (route,) = routes_of(results[0].output)
    assert route["condition"] == {"method": "GET", "pathRegex": "/v1/items/[^/]*"}
    assert [c["isFailure"] for c in route["responseClasses"]] == [False, True]
    assert (route["isRetryable"], route["timeout"]) == (True, "2s")


def test_every_rpc_becomes_a_post_route() -> None:
    result = run("--proto", "-", "-o", "json", stdin=PROTO)

    routes = json.loads(result.output)["spec"]["routes"]
    assert {
        (route["name"], route["condition"]["pathRegex"], route.get("isRetryable", False))
        for route in routes
    } == {
        ("Orders/Get", "/shop\\.v1\\.Orders/Get", True),
        ("Put", "/shop\\.v1\\.Orders/Put", False),
        ("Stock/Get", "/shop\\.v1\\.Stock/Get", False),
    }


def test_the_template_is_a_profile_without_findings() -> None:
    text = run("--template").output

    assert yaml.safe_load(text)["metadata"]["name"] == "orders.shop.svc.cluster.local"
    assert lint_files([("profile.yaml", text)]) == ([], 1)


@pytest.mark.parametrize(
    "document", [None, [], {}, {"openapi": "3.0.0"}, {"swagger": "2.0", "paths": {"x": {}}}]
)
def test_what_is_no_openapi_is_refused(document: Any) -> None:
    with pytest.raises(ConfigError, match="expected"):
        read_openapi(document)


@pytest.mark.parametrize("text", ["", "message A {}", "service A { rpc B (C) returns (D);"])
def test_a_file_without_services_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a"):
        read_proto(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="rpc service{}()=;/*\"' \nAB.", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        assert read_proto(text)


def test_two_sources_at_once_are_wrong_usage() -> None:
    assert run("--template", "--proto", "-").exit_code == 2
