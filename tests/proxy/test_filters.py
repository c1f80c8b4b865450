"""What filters make of requests and responses."""

from __future__ import annotations

import pytest

from mesh.core.model import Cors, Filters, HeaderEdit, PathChange, Redirect, Rewrite
from proxy.filters import FilterSet, compile_filters
from proxy.http1 import COLON, CRLF, Request
from tests.proxy.sinks import pairs


def request(method: bytes = b"GET", target: bytes = b"/shop/a?b=1", **fields: str) -> Request:
    flat: list[bytes] = []
    for name, value in {"Host": "web:80", **fields}.items():
        flat += (name.replace("_", "-").encode(), COLON, value.encode(), CRLF)
    made = Request(method, target, flat)
    made.host = b"web:80"
    return made


def made(*parts: Filters) -> FilterSet:
    found = compile_filters(*parts)
    assert found is not None
    return found


def test_no_filters_are_no_object() -> None:
    assert compile_filters(None, None) is None


def test_fields_are_set_added_and_removed_without_regard_to_case() -> None:
    edit = HeaderEdit(
        set=(("x-set", "new"),), add=(("x-list", "b"), ("x-more", "c")), remove=("x-gone",)
    )
    original = request(X_Set="old", X_List="a", X_Gone="1", x_kept="k")

    changed = made(Filters(request=edit)).request(original)

    assert pairs(changed.fields) == [
        (b"Host", b"web:80"),
        (b"X-List", b"a,b"),
        (b"x-kept", b"k"),
        (b"x-set", b"new"),
        (b"x-more", b"c"),
    ]
    assert (b"X-Set", b"old") in pairs(original.fields)


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding", "connection", "upgrade"])
def test_fields_that_frame_a_message_are_never_edited(name: str) -> None:
    edit = HeaderEdit(set=((name, "1"),), add=((name, "1"),), remove=(name,))
    original = request(b"GET", b"/", **{name.replace("-", "_"): "7"})

    assert made(Filters(request=edit)).request(original).fields == original.fields


def test_a_value_with_a_line_end_is_not_written() -> None:
    edit = HeaderEdit(set=(("x-a", "1\r\nx-b: 2"),))

    assert made(Filters(request=edit)).request(request()).fields == request().fields


def test_a_backend_edits_what_its_rule_has_edited() -> None:
    rule = Filters(request=HeaderEdit(add=(("x-a", "rule"),)))
    backend = Filters(request=HeaderEdit(add=(("x-a", "backend"),)))

    changed = made(rule, backend).request(request())

    assert (b"x-a", b"rule,backend") in pairs(changed.fields)


@pytest.mark.parametrize(
    ("change", "target"),
    [
        (PathChange(full="/all"), b"/all?b=1"),
        (PathChange(prefix="/new", matched="/shop"), b"/new/a?b=1"),
        (PathChange(prefix="/", matched="/shop/"), b"/a?b=1"),
    ],
)
def test_a_rewrite_changes_the_path_and_keeps_the_query(change: PathChange, target: bytes) -> None:
    changed = made(Filters(rewrite=Rewrite(path=change))).request(request())

    assert changed.target == target


def test_a_rewrite_changes_the_host() -> None:
    changed = made(Filters(rewrite=Rewrite(hostname="other.org"))).request(request())

    assert changed.host == b"other.org"
    assert pairs(changed.fields) == [(b"Host", b"other.org")]


@pytest.mark.parametrize(
    ("redirect", "where"),
    [
        (Redirect(hostname="example.org"), b"http://example.org/shop/a?b=1"),
        (Redirect(scheme="https"), b"https://web/shop/a?b=1"),
        (Redirect(port=8083), b"http://web:8083/shop/a?b=1"),
        (Redirect(path=PathChange(full="/x")), b"http://web/x?b=1"),
    ],
)
def test_a_redirect_names_where_to_go(redirect: Redirect, where: bytes) -> None:
    reply = made(Filters(redirect=redirect)).answer(request(), 80)

    assert reply is not None
    assert (reply.status, pairs(reply.fields)) == (302, [(b"location", where)])


CORS = Cors(
    allow_origins=("https://shop.example.com", "https://*.example.org"),
    allow_methods=("GET", "PUT"),
    allow_headers=("x-one", "x-two"),
    expose_headers=("x-seen",),
    max_age=60,
)


def preflight(origin: str) -> Request:
    return request(b"OPTIONS", Origin=origin, Access_Control_Request_Method="PUT")


@pytest.mark.parametrize("origin", ["https://shop.example.com", "https://a.b.example.org"])
def test_a_preflight_is_answered_for_an_allowed_origin(origin: str) -> None:
    reply = made(Filters(cors=CORS)).answer(preflight(origin), 80)

    assert reply is not None
    found = dict(pairs(reply.fields))
    assert reply.status == 204
    assert found[b"access-control-allow-origin"] == origin.encode()
    assert found[b"access-control-allow-methods"] == b"GET, PUT"
    assert found[b"access-control-allow-headers"] == b"x-one, x-two"
    assert found[b"access-control-max-age"] == b"60"


@pytest.mark.parametrize("origin", ["https://evil.org", "https://.example.org", "null"])
def test_another_origin_gets_no_permission(origin: str) -> None:
    filters = made(Filters(cors=CORS))
    reply = filters.answer(preflight(origin), 80)

    assert reply is not None
    assert reply.fields == []
    assert filters.response(request(Origin=origin), []) == []


def test_a_cross_origin_response_says_who_may_read_it() -> None:
    fields = [b"Access-Control-Allow-Origin", COLON, b"*", CRLF]

    found = made(Filters(cors=CORS)).response(request(Origin="https://shop.example.com"), fields)

    assert pairs(found) == [
        (b"access-control-allow-origin", b"https://shop.example.com"),
        (b"vary", b"origin"),
        (b"access-control-expose-headers", b"x-seen"),
    ]


def test_a_wildcard_names_what_was_asked_for_when_there_are_credentials() -> None:
    everything = Cors(("*",), ("*",), ("*",), allow_credentials=True)

    reply = made(Filters(cors=everything)).answer(preflight("https://a.org"), 80)

    assert reply is not None
    found = dict(pairs(reply.fields))
    assert found[b"access-control-allow-origin"] == b"https://a.org"
    assert found[b"access-control-allow-methods"] == b"PUT"
    assert found[b"access-control-allow-credentials"] == b"true"


def test_an_ordinary_options_request_is_no_preflight() -> None:
    assert made(Filters(cors=CORS)).answer(request(b"OPTIONS", Origin="https://a.org"), 80) is None
