"""`mesh local apply`: the difference that is sent is the one kubectl would send."""

from __future__ import annotations

from typing import Any

from mesh.local.apply import LAST_APPLIED, difference, last_applied, with_last_applied

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}},
}


def _as_served(obj: dict[str, Any]) -> dict[str, Any]:
    """What a server makes of it: defaults inside lists and beside fields."""
    spec = {
        "ports": [{"port": 80, "protocol": "TCP"}],
        "selector": {"app": "web"},
        "clusterIP": "10.96.0.9",
    }
    return {**with_last_applied(obj), "spec": spec}


def test_applying_the_same_again_changes_nothing() -> None:
    live = _as_served(SERVICE)

    assert difference(last_applied(live), with_last_applied(SERVICE), live) == {}


def test_only_what_changed_is_sent_and_what_was_dropped_is_removed() -> None:
    live = _as_served(SERVICE)
    wanted = {**SERVICE, "spec": {"ports": [{"port": 81}]}}

    patch = difference(last_applied(live), with_last_applied(wanted), live)

    assert patch["spec"] == {"ports": [{"port": 81}], "selector": None}
    assert set(patch["metadata"]["annotations"]) == {LAST_APPLIED}


def test_what_others_wrote_is_left_alone() -> None:
    live = _as_served(SERVICE)
    live["metadata"]["labels"] = {"theirs": "1"}

    patch = difference(last_applied(live), with_last_applied(SERVICE), live)

    assert patch == {}


def test_an_annotation_that_is_no_json_counts_as_never_applied() -> None:
    live = {**SERVICE, "metadata": {"name": "web", "annotations": {LAST_APPLIED: "{"}}}

    assert last_applied(live) == {}
