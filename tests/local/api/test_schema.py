"""Structural schemas: pruning, defaults and validation, with jsonschema-rs as an oracle."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.api import schema


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


SPEC = of(
    spec=of(
        size={"type": "integer", "minimum": 1},
        port={"x-kubernetes-int-or-string": True},
        free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        items={"type": "array", "items": of(name={"type": "string"})},
        named={"type": "object", "additionalProperties": of(a={"type": "string"})},
    )
)


def test_what_is_not_specified_is_dropped_and_told() -> None:
    obj = {
        "apiVersion": "x/v1",
        "kind": "X",
        "metadata": {"name": "a", "anything": 1},
        "other": 1,
        "spec": {
            "size": 1,
            "extra": 1,
            "free": {"any": {"thing": 1}},
            "items": [{"name": "a", "b": 1}],
            "named": {"x": {"a": "1", "b": 2}},
        },
    }

    dropped = schema.prune(SPEC, obj)

    assert dropped == ["other", "spec.extra", "spec.items[0].b", "spec.named.x.b"]
    assert obj["metadata"] == {"name": "a", "anything": 1}
    assert obj["spec"] == {
        "size": 1,
        "free": {"any": {"thing": 1}},
        "items": [{"name": "a"}],
        "named": {"x": {"a": "1"}},
    }


def test_specified_fields_inside_of_preserved_ones_are_still_pruned() -> None:
    inner = of(known=of(a={"type": "string"}))
    inner["x-kubernetes-preserve-unknown-fields"] = True
    obj = {"spec": {"known": {"a": "1", "b": 2}, "unknown": {"c": 3}}}

    schema.prune(of(spec=inner), obj)

    assert obj == {"spec": {"known": {"a": "1"}, "unknown": {"c": 3}}}


def test_embedded_resources_keep_their_type_and_metadata() -> None:
    inner = {**of(spec=of()), "x-kubernetes-embedded-resource": True}
    obj = {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "x": 1}}

    schema.prune(of(pod=inner), obj)

    assert obj == {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}}


def test_defaults_fill_what_is_missing_at_every_level() -> None:
    inner = of(
        mode={"type": "string", "default": "slow"},
        nested={**of(depth={"type": "integer", "default": 3}), "default": {}},
        items={"type": "array", "items": of(weight={"type": "integer", "default": 1})},
        absent=of(never={"type": "string", "default": "x"}),
    )
    obj: dict[str, Any] = {"spec": {"items": [{}, {"weight": 2}]}}

    schema.fill_defaults(of(spec=inner), obj)

    assert obj["spec"] == {
        "mode": "slow",
        "nested": {"depth": 3},
        "items": [{"weight": 1}, {"weight": 2}],
    }


def test_a_null_gives_way_to_the_default_unless_it_is_allowed() -> None:
    inner = of(
        a={"type": "string", "default": "x"},
        b={"type": "string", "default": "x", "nullable": True},
    )
    obj: dict[str, Any] = {"spec": {"a": None, "b": None}}

    schema.fill_defaults(of(spec=inner), obj)

    assert obj["spec"] == {"a": "x", "b": None}


@pytest.mark.parametrize(
    ("rule", "value", "fault"),
    [
        ({"type": "string"}, 1, 'f: Invalid value: "integer": f in body must be of type string: '),
        ({"type": "integer"}, 1.5, "must be of type integer"),
        ({"type": "integer"}, True, "must be of type integer"),
        ({"type": "string"}, None, 'must be of type string: "null"'),
        ({"x-kubernetes-int-or-string": True}, True, "must be of type integer,string"),
        ({"type": "integer", "format": "int32"}, 2**31, "must be of type int32"),
        ({"type": "integer", "maximum": 3}, 4, "should be less than or equal to 3"),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, 3, "greater than 3"),
        ({"type": "number", "multipleOf": 5}, 7, "multiple of 5"),
        ({"type": "string", "enum": ["a", "b"]}, "c", 'supported values: "a", "b"'),
        ({"type": "string", "pattern": "^a+$"}, "ab", "should match '^a+$'"),
        ({"type": "string", "pattern": "^a+$"}, "a\n", "should match '^a+$'"),
        ({"type": "string", "maxLength": 2}, "abc", "Too long: may not be more than 2 bytes"),
        ({"type": "string", "minLength": 2}, "a", "should be at least 2 chars long"),
        ({"type": "string", "format": "date-time"}, "today", "must be of type date-time"),
        ({"type": "string", "format": "ipv4"}, "1.2.3", "must be of type ipv4"),
        ({"type": "array", "items": {}, "maxItems": 1}, [1, 2], "must have at most 1 items"),
        ({"type": "array", "items": {}, "minItems": 1}, [], "should have at least 1 items"),
        (
            {"type": "array", "items": {}, "x-kubernetes-list-type": "set"},
            ["a", "a"],
            'f[1]: Duplicate value: "a"',
        ),
        ({"type": "object", "required": ["a"]}, {}, "f.a: Required value"),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2}, "at most 1 items"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, "Found none valid"),
        ({"anyOf": [{"required": ["a"]}]}, {}, "must validate at least one schema (anyOf)"),
        ({"not": {"required": ["a"]}}, {"a": 1}, "must not validate the schema (not)"),
        ({"allOf": [{"minimum": 2}]}, 1, "greater than or equal to 2"),
    ],
)
def test_a_wrong_value_is_told_in_the_servers_words(rule: Any, value: Any, fault: str) -> None:
    faults = schema.validate(of(f=rule), {"f": value})

    assert len(faults) == 1
    assert fault in f"{faults[0].field}: {faults[0]}"


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ({"type": "string", "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "500m"),
        ({"x-kubernetes-int-or-string": True}, 3),
        ({"type": "number"}, 3),
        ({"type": "string", "format": "unknown"}, "anything"),
        ({"type": "string", "pattern": r"^\d+\z"}, "12"),
        ({"type": "string", "format": "duration"}, "1h30m"),
    ],
)
def test_a_good_value_passes(rule: Any, value: Any) -> None:
    assert schema.validate(of(f=rule), {"f": value}) == []


_SCALARS = st.sampled_from(
    [
        {"type": "string", "maxLength": 2},
        {"type": "string", "enum": ["a", "b"]},
        {"type": "integer", "minimum": 0, "maximum": 5},
        {"type": "boolean"},
        {"type": "number"},
    ]
)
_SCHEMAS = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.builds(lambda i: {"type": "array", "items": i, "maxItems": 2}, inner),
        st.builds(
            lambda p, r: {"type": "object", "properties": p, "required": [x for x in r if x in p]},
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
            st.lists(st.sampled_from("abc"), unique=True),
        ),
    ),
    max_leaves=6,
)
_VALUES = st.recursive(
    st.sampled_from(["a", "xyz", 0, 3, 9, 1.5, True, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner),
    max_leaves=6,
)


@given(rule=_SCHEMAS, value=_VALUES)
def test_validation_agrees_with_a_json_schema_library(rule: Any, value: Any) -> None:
    expected = jsonschema_rs.is_valid(rule, value)

    assert (schema.validate(of(f=rule), {"f": value}) == []) is expected
