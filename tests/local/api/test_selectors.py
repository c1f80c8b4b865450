"""Label and field selectors in both forms, and what is refused."""

from __future__ import annotations

import pytest

from mesh.local.api import selectors

LABELS = {"app": "web", "tier": "front", "count": "5"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=db", False),
        ("app!=db", True),
        ("missing!=x", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("missing notin (x)", True),
        ("app", True),
        ("!app", False),
        ("! missing", True),
        ("missing", False),
        ("app=", False),
        ("count>4", True),
        ("count<5", False),
        ("app>4", False),
        ("in in (in)", False),
    ],
)
def test_a_label_query_matches(text: str, matches: bool) -> None:
    assert selectors.matches(selectors.parse_labels(text), LABELS) is matches


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in (", "found '', expected: ',', ')' or identifier"),
        ("a in b", "found 'b' expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "found 'b', expected: in, notin"),
        ("a=b-", "invalid label value"),
        ("-a=b", "invalid label key"),
    ],
)
def test_a_wrong_label_query_is_refused_with_the_place(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refused:
        selectors.parse_labels(text)

    assert words in str(refused.value)


def test_a_selector_object_matches_with_all_of_its_parts() -> None:
    selector = selectors.parse_selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }
    )

    assert selectors.matches(selector, LABELS)
    assert not selectors.matches(selector, {"app": "web"})
    assert selectors.matches(selectors.parse_selector({}), {})


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid label selector operator"):
        selectors.parse_selector({"matchExpressions": [{"key": "a", "operator": "Like"}]})


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=one", True),
        ("metadata.name!=one", False),
        ("spec.nodeName=", True),
        ("status.phase==Running,metadata.name=one", True),
        ("spec.hostNetwork=false", True),
    ],
)
def test_a_field_query_matches(text: str, matches: bool) -> None:
    obj = {
        "metadata": {"name": "one"},
        "spec": {"hostNetwork": False},
        "status": {"phase": "Running"},
    }

    assert selectors.fields_match(selectors.parse_fields(text), obj) is matches


def test_fields_that_a_kind_does_not_offer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"field label not supported: spec\.foo"):
        selectors.check_fields("pods", selectors.parse_fields("spec.foo=1"))
    selectors.check_fields("widgets.x.y", selectors.parse_fields("spec.a=1"), ["spec.a"])


def test_a_selector_object_is_written_as_a_query() -> None:
    text = selectors.format_labels(
        {
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                {"key": "c", "operator": "NotIn", "values": ["y", "x"]},
                {"key": "d", "operator": "Exists"},
                {"key": "e", "operator": "DoesNotExist"},
            ],
        }
    )

    assert text == "a=1,b=2,c notin (x,y),d,!e"
