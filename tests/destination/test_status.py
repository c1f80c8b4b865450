"""What users see on their objects."""

from __future__ import annotations

from typing import Any

from destination.fragments import Outcome, Ref
from destination.status import event_of, message_of, status_of
from destination.store import Seen
from mesh.core.model import Problem, Source, Verdict

SOURCE = Source("TrafficSplit", "shop", "web")
PROBLEM = Problem(SOURCE, "spec.backends[1].service", "NoSuchService", "no Service shop/x")
NOW, LATER = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
REF = Ref("trafficsplits.split.smi-spec.io", "shop", "web")


def _seen(status: Any = None, generation: int = 3) -> Seen:
    return Seen(REF, "split.smi-spec.io/v1alpha4", "uid", generation, "7", status)


def _status(outcome: Outcome, seen: Seen | None = None, now: str = NOW) -> dict[str, Any]:
    status = status_of(outcome, seen or _seen(), now)
    assert status is not None
    return status


def test_an_effective_object_says_what_it_acts_on() -> None:
    status = _status(Outcome(Verdict.EFFECTIVE, service="shop/web"))

    assert status == {
        "conditions": [
            {
                "type": "Effective",
                "status": "True",
                "reason": "Effective",
                "message": "acts on Service shop/web",
                "observedGeneration": 3,
                "lastTransitionTime": NOW,
            }
        ],
        "verdict": "Effective",
        "problems": [],
    }


def test_what_is_not_honoured_stands_there_with_its_path() -> None:
    status = _status(Outcome(Verdict.PARTIAL, (PROBLEM,), "shop/web"))

    assert status["conditions"][0]["message"] == (
        "acts on Service shop/web; spec.backends[1].service: no Service shop/x"
    )
    assert status["problems"] == [
        {
            "path": "spec.backends[1].service",
            "reason": "NoSuchService",
            "message": "no Service shop/x",
        }
    ]


def test_a_shadowed_object_names_its_winner_and_is_not_effective() -> None:
    winner = Source("TrafficSplit", "shop", "old")

    status = _status(Outcome(Verdict.SHADOWED, (), "shop/web", shadowed_by=winner))

    assert status["verdict"] == "Shadowed by TrafficSplit/shop/old"
    assert status["conditions"][0]["status"] == "False"
    assert status["conditions"][0]["reason"] == "Shadowed"


def test_a_status_that_is_there_already_is_not_written_again() -> None:
    outcome = Outcome(Verdict.PARTIAL, (PROBLEM,), "shop/web")

    assert status_of(outcome, _seen(_status(outcome)), LATER) is None


def test_a_new_generation_is_a_new_status_but_no_transition() -> None:
    outcome = Outcome(Verdict.EFFECTIVE, service="shop/web")

    status = _status(outcome, _seen(_status(outcome), generation=4), LATER)

    assert status["conditions"][0]["observedGeneration"] == 4
    assert status["conditions"][0]["lastTransitionTime"] == NOW


def test_a_verdict_that_turns_is_a_transition() -> None:
    before = _status(Outcome(Verdict.EFFECTIVE, service="shop/web"))

    status = _status(Outcome(Verdict.REJECTED, (PROBLEM,)), _seen(before), LATER)

    assert status["conditions"][0]["lastTransitionTime"] == LATER


def test_conditions_of_others_stay() -> None:
    other = {"type": "Accepted", "status": "True"}

    status = _status(Outcome(Verdict.EFFECTIVE), _seen({"conditions": [other]}))

    assert [condition["type"] for condition in status["conditions"]] == ["Accepted", "Effective"]


def test_a_status_that_somebody_broke_is_mended() -> None:
    assert status_of(Outcome(Verdict.EFFECTIVE), _seen("broken"), NOW) is not None
    assert status_of(Outcome(Verdict.EFFECTIVE), _seen({"conditions": 7}), NOW) is not None


def test_a_long_message_is_cut() -> None:
    problems = tuple(Problem(SOURCE, f"spec.x[{n}]", "R", "m" * 50) for n in range(100))

    outcome = Outcome(Verdict.PARTIAL, problems)

    assert len(message_of(outcome)) == 1024
    assert len(_status(outcome)["problems"]) == 20


def test_an_event_says_the_same_where_there_is_no_status() -> None:
    outcome = Outcome(Verdict.PARTIAL, (PROBLEM,), "shop/web")

    event = event_of(REF, "TrafficSplit", "x/v1", "uid", outcome, now=NOW, name="web.1")

    assert (event["type"], event["reason"]) == ("Warning", "Partial")
    assert event["message"] == message_of(outcome)
    assert event["involvedObject"]["name"] == "web"
