"""Routes from the lines that proxies write about requests."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import ConfigError
from mesh.profile.observed import MOST_ROUTES, read_access_log
from mesh.profile.routes import build_profile


def line(method: str, uri: str, status: int = 200, **more: str) -> str:
    entry = {"direction": "inbound", "method": method, "uri": uri, "status": status, "host": "web"}
    return json.dumps(entry | more)


def text_line(method: str, uri: str, status: int = 200) -> str:
    return (
        f'10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "{method} {uri} HTTP/1.1" '
        f"{status} 12 0.001000 inbound - -"
    )


def routes(*lines: str) -> list[tuple[str, str]]:
    found = read_access_log("\n".join(lines), "web")
    return sorted((route.method, route.pattern) for route in found)


def test_text_and_json_lines_are_read_and_others_passed_over() -> None:
    found = routes(
        "2026-01-01T00:00:00Z info proxy: ready",
        line("GET", "/items?x=1"),
        text_line("POST", "/orders"),
        "{not json",
    )

    assert found == [("GET", "/items"), ("POST", "/orders")]


@pytest.mark.parametrize(
    "thing",
    ["7", "b5c7e0d2-7a3f-4e0e-9f2b-0a1b2c3d4e5f", "deadbeef01", "ord-12345", "AB1234"],
)
def test_names_of_single_things_are_parameters(thing: str) -> None:
    assert routes(line("GET", f"/items/{thing}/price")) == [("GET", "/items/[^/]+/price")]


def test_words_stay_until_there_are_many_of_them() -> None:
    few = [line("GET", f"/users/{name}") for name in ("ann", "bob")]
    many = [line("GET", f"/users/{chr(97 + at) * 3}") for at in range(20)]

    assert routes(*few) == [("GET", "/users/ann"), ("GET", "/users/bob")]
    assert routes(*many) == [("GET", "/users/[^/]+")]


def test_the_root_is_a_route_and_a_last_slash_stays() -> None:
    assert routes(line("GET", "/"), line("GET", "/a/")) == [("GET", "/"), ("GET", "/a/")]


def test_what_was_not_found_or_went_elsewhere_is_left_out() -> None:
    found = routes(
        line("GET", "/wp-admin", 404),
        line("GET", "/other", direction="outbound", host="api.shop:80"),
        line("GET", "/mine", direction="outbound", host="web.shop.svc.cluster.local:80"),
    )

    assert found == [("GET", "/mine")]


def test_the_most_frequent_routes_stay() -> None:
    lines = [line("GET", f"/{chr(97 + at % 12)}/{chr(97 + at // 12)}") for at in range(120)]

    found = read_access_log("\n".join([*lines, line("GET", "/a/a"), line("GET", "/a/a")]), "web")

    assert len(found) == MOST_ROUTES
    assert found[0].pattern == "/a/a"


def test_no_request_is_an_error() -> None:
    with pytest.raises(ConfigError, match="access log"):
        read_access_log("nothing here", "web")


@given(st.lists(st.text(max_size=40)), st.text(max_size=200))
def test_any_text_is_read_or_refused(paths: list[str], text: str) -> None:
    lines = [line("GET", "/" + path) for path in paths]
    try:
        found = read_access_log("\n".join([*lines, text]), "web")
    except ConfigError:
        return
    assert build_profile("web", "shop", "cluster.local", found)["spec"]["routes"]
