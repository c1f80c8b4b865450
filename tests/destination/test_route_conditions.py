"""What users see on their routes."""

from __future__ import annotations

from typing import Any

from destination.fragments import Outcome, ParentOutcome, Ref
from destination.route_conditions import route_status_of
from destination.store import Seen
from mesh.core.labels import CONTROLLER
from mesh.core.model import Source, Verdict

REF = Ref("httproutes.gateway.networking.k8s.io", "shop", "web")
PARENT = {"group": "", "kind": "Service", "name": "web"}
NOW, LATER = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
GOOD = Outcome(Verdict.EFFECTIVE, service="shop/web", parents=(ParentOutcome(PARENT),))
CONFLICT = Outcome(Verdict.SHADOWED, parents=(ParentOutcome(PARENT, "Conflicted", "why"),))
OTHER = {"parentRef": {"name": "g"}, "controllerName": "example.com/other", "conditions": [1]}


def seen(status: Any = None, generation: int = 3) -> Seen:
    return Seen(REF, "gateway.networking.k8s.io/v1", "uid", generation, "7", status)


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    (mine,) = [entry for entry in status["parents"] if entry["controllerName"] == CONTROLLER]
    return {item["type"]: (item["status"], item["reason"]) for item in mine["conditions"]}


def test_an_accepted_route_says_so_in_the_words_of_the_specification() -> None:
    status = route_status_of(GOOD, seen(), NOW)

    assert conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Effective": ("True", "Effective"),
        "Verdict": ("True", "Effective"),
    }
    assert status is not None
    assert status["parents"][0]["parentRef"] == PARENT
    assert status["parents"][0]["conditions"][0]["observedGeneration"] == 3


def test_a_conflict_and_dropped_rules_are_conditions() -> None:
    partial = ParentOutcome(PARENT, partial="Dropped Rule(s) 1: they do not read")

    conflict = conditions(route_status_of(CONFLICT, seen(), NOW))
    dropped = conditions(route_status_of(Outcome(Verdict.PARTIAL, parents=(partial,)), seen(), NOW))

    assert conflict["Accepted"] == ("False", "Conflicted")
    assert dropped["PartiallyInvalid"] == ("True", "UnsupportedValue")


def test_the_verdict_in_few_words_names_who_goes_before() -> None:
    older = Source("HTTPRoute", "shop", "older")
    shadowed = Outcome(Verdict.SHADOWED, shadowed_by=older, parents=CONFLICT.parents)

    status = route_status_of(shadowed, seen(), NOW)

    assert status is not None
    verdict = status["parents"][0]["conditions"][-1]
    assert (verdict["type"], verdict["reason"]) == ("Verdict", "Shadowed")
    assert verdict["message"] == "Shadowed by HTTPRoute/shop/older"


def test_what_is_there_already_is_not_written_again() -> None:
    status = route_status_of(GOOD, seen(), NOW)

    assert route_status_of(GOOD, seen(status), LATER) is None


def test_entries_of_others_stay_and_ours_go_with_their_parent() -> None:
    mine = route_status_of(GOOD, seen(), NOW)
    assert mine is not None
    both = {"parents": [OTHER, *mine["parents"]]}

    assert route_status_of(GOOD, seen(both), LATER) is None
    assert route_status_of(None, seen(both), LATER) == {"parents": [OTHER]}
    assert route_status_of(None, seen({"parents": [OTHER]}), LATER) is None


def test_only_a_condition_that_turns_has_a_new_time() -> None:
    before = route_status_of(GOOD, seen(), NOW)

    after = route_status_of(CONFLICT, seen(before, generation=4), LATER)

    assert after is not None
    times = {item["type"]: item["lastTransitionTime"] for item in after["parents"][0]["conditions"]}
    assert times == {"Accepted": LATER, "ResolvedRefs": NOW, "Effective": LATER, "Verdict": LATER}
