"""New paths and Locations, by the tables of the Gateway API."""

from __future__ import annotations

import pytest

from mesh.core.filters import change_path, location
from mesh.core.model import PathChange, Redirect


@pytest.mark.parametrize(
    ("path", "matched", "prefix", "expected"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
    ],
)
def test_a_prefix_is_replaced(path: str, matched: str, prefix: str, expected: str) -> None:
    assert change_path(PathChange(prefix=prefix, matched=matched), path) == expected


def test_a_full_path_replaces_all() -> None:
    assert change_path(PathChange(full="/one"), "/foo/bar") == "/one"


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        (Redirect(hostname="example.org"), "http://example.org:8080/a/b?c=d"),
        (Redirect(scheme="https"), "https://echo/a/b?c=d"),
        (Redirect(scheme="http"), "http://echo/a/b?c=d"),
        (Redirect(scheme="https", port=8443), "https://echo:8443/a/b?c=d"),
        (Redirect(port=80), "http://echo/a/b?c=d"),
        (Redirect(port=8083), "http://echo:8083/a/b?c=d"),
        (Redirect(path=PathChange(full="/x")), "http://echo:8080/x?c=d"),
        (Redirect(path=PathChange(prefix="/x", matched="/a")), "http://echo:8080/x/b?c=d"),
    ],
)
def test_a_location_keeps_what_the_redirect_does_not_name(
    redirect: Redirect, expected: str
) -> None:
    found = location(redirect, scheme="http", host="echo:8080", port=8080, path="/a/b", query="c=d")

    assert found == expected


def test_a_location_keeps_the_brackets_of_an_address() -> None:
    found = location(
        Redirect(path=PathChange(full="/x")),
        scheme="http",
        host="[fd00::1]:80",
        port=80,
        path="/",
        query="",
    )

    assert found == "http://[fd00::1]/x"
