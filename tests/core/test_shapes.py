"""Paths whose parts name single things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.shapes import PARAMETER, collapse, path_of, read_path, shape_of


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/items/7/price", "/items/{id}/price"),
        ("/users/ann@example.org", "/users/{id}"),
        ("/s/eyJhbGciOiJIUzI1NiJ9", "/s/{id}"),
        ("/static/" + "a" * 60, "/static/{id}"),
        ("/shop.v1.Orders/GetOrder", "/shop.v1.Orders/GetOrder"),
        ("/.well-known/openid-configuration", "/.well-known/openid-configuration"),
        ("/a/" * 40, "/" + "a//" * 8 + "{id}"),
    ],
)
def test_what_names_one_thing_or_a_person_becomes_a_parameter(path: str, shown: str) -> None:
    assert path_of(shape_of(path)) == shown


def test_words_stay_until_there_are_many_of_them() -> None:
    few = [shape_of(f"/users/{name}") for name in ("ann", "bob")]
    many = [shape_of(f"/users/{chr(97 + at) * 3}") for at in range(20)]

    assert {path_of(shape) for shape in collapse(few).values()} == {"/users/ann", "/users/bob"}
    assert {path_of(shape) for shape in collapse(many).values()} == {"/users/{id}"}


@given(st.text(st.characters(codec="ascii", exclude_characters="{}\0"), max_size=80))
def test_a_shape_reads_back_as_it_was_written(path: str) -> None:
    shape = shape_of("/" + path)

    assert read_path(path_of(shape)) == shape
    assert all(part == PARAMETER or len(part) <= 48 for part in shape)
