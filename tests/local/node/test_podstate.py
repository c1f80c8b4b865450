"""What a pod does next, and what its status says."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.node.podstate import Decision, Record, State, backoff, decide, ended
from mesh.local.node.podstatus import Facts, pod_status

APP: dict[str, Any] = {"name": "app"}
SIDECAR: dict[str, Any] = {"name": "side", "restartPolicy": "Always"}
INIT: dict[str, Any] = {"name": "init"}
NOW = 1000.0


def spec(*inits: dict[str, Any], policy: str = "Always", apps: tuple[Any, ...] = (APP,)) -> Any:
    return {"restartPolicy": policy, "initContainers": list(inits), "containers": list(apps)}


def running(name: str, *, started: bool = True, ready: bool = True) -> Record:
    return Record(name, State.RUNNING, started=started, ready=ready, started_at=NOW - 1)


def over(name: str, code: int, *, retry_at: float = 0.0) -> Record:
    return Record(name, State.TERMINATED, exit_code=code, retry_at=retry_at, finished_at=NOW)


def step(pod: Any, *records: Record, initialized: bool = False) -> Decision:
    every = [*pod["initContainers"], *pod["containers"]]
    known = {entry["name"]: Record(entry["name"]) for entry in every}
    known |= {record.name: record for record in records}
    return decide(pod, known, now=NOW, initialized=initialized)


def test_init_containers_run_one_after_the_other() -> None:
    pod = spec({"name": "one"}, {"name": "two"})

    assert step(pod).start == ("one",)
    assert step(pod, running("one")).start == ()
    assert step(pod, over("one", 0)).start == ("two",)
    assert step(pod, over("one", 0), over("two", 0)).start == ("app",)


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    assert step(spec(INIT, policy="Never"), over("init", 1)).phase == "Failed"
    assert step(spec(INIT, policy="OnFailure"), over("init", 1)).start == ("init",)


def test_a_sidecar_holds_back_what_follows_until_it_has_started() -> None:
    pod = spec(SIDECAR, INIT)

    assert step(pod, running("side", started=False)).start == ()
    assert step(pod, running("side")).start == ("init",)
    assert step(pod, running("side"), over("init", 0)).start == ("app",)


def test_a_sidecar_that_died_comes_back_without_running_init_again() -> None:
    found = step(spec(SIDECAR, INIT), over("side", 0), running("app"), initialized=True)

    assert found.start == ("side",)


def test_a_container_in_backoff_is_started_when_the_time_has_come() -> None:
    found = step(spec(), over("app", 1, retry_at=NOW + 5), initialized=True)

    assert (found.start, found.wake_at) == ((), NOW + 5)
    assert not found.finishing


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), ""),
        ("Always", (0, 0), ""),
    ],
)
def test_a_pod_is_over_when_nothing_restarts(
    policy: str, codes: tuple[int, int], phase: str
) -> None:
    pod = spec(SIDECAR, policy=policy, apps=({"name": "a"}, {"name": "b"}))

    found = step(pod, running("side"), over("a", codes[0]), over("b", codes[1]))

    assert found.phase == phase
    assert found.finishing is bool(phase)


def test_backoff_doubles_after_one_immediate_restart_up_to_a_limit() -> None:
    assert [backoff(crashes) for crashes in (1, 2, 3, 4, 50)] == [0.0, 1.0, 2.0, 4.0, 15.0]


def test_a_long_life_forgives_earlier_crashes() -> None:
    record = Record("app", crashes=7, started_at=NOW - 61)

    ended(record, code=1, signal=0, reason="", message="", now=NOW)

    assert (record.crashes, record.retry_at, record.reason) == (1, NOW, "Error")


def status(pod_spec: Any, *records: Record, initialized: bool = True, phase: str = "") -> Any:
    every = [*pod_spec["initContainers"], *pod_spec["containers"]]
    known = {entry["name"]: Record(entry["name"]) for entry in every}
    known |= {record.name: record for record in records}
    facts = Facts(("10.0.0.9", "fd00::9"), ("10.0.0.1",), initialized, phase, NOW)
    return pod_status({"spec": pod_spec}, known, facts, now=NOW)


def conditions(found: Any) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in found["conditions"]}


def test_a_running_pod_is_ready_when_every_container_and_sidecar_is() -> None:
    found = status(spec(SIDECAR), running("side"), running("app"))

    assert found["phase"] == "Running"
    assert set(conditions(found).values()) == {"True"}
    assert found["podIPs"] == [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}]


def test_an_unready_sidecar_makes_the_pod_unready() -> None:
    found = status(spec(SIDECAR), running("side", ready=False), running("app"))

    assert conditions(found)["Ready"] == "False"
    assert "[side]" in found["conditions"][2]["message"]


def test_a_crashing_container_waits_and_shows_its_last_end() -> None:
    found = status(spec(), over("app", 3, retry_at=NOW + 4))["containerStatuses"][0]

    assert found["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert found["lastState"]["terminated"]["exitCode"] == 3


def test_a_pending_pod_says_which_containers_wait_for_init() -> None:
    found = status(spec(INIT), running("init", started=False), initialized=False)

    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert conditions(found)["Initialized"] == "False"


def test_a_completed_pod_is_not_ready_because_it_completed() -> None:
    found = status(spec(policy="Never"), over("app", 0), phase="Succeeded")

    ready = found["conditions"][2]
    assert (found["phase"], ready["status"], ready["reason"]) == (
        "Succeeded",
        "False",
        "PodCompleted",
    )


def test_transition_times_stay_while_nothing_changes() -> None:
    pod = {"spec": spec()}
    records = {"app": running("app")}
    facts = Facts(("10.0.0.9",), ("10.0.0.1",), True, "", NOW)
    first = pod_status(pod, records, facts, now=NOW)

    again = pod_status({**pod, "status": first}, records, facts, now=NOW + 60)

    assert again == first


def test_a_readiness_gate_nobody_set_keeps_the_pod_unready() -> None:
    gated = {**spec(), "readinessGates": [{"conditionType": "example.com/ok"}]}

    found = status(gated, running("app"))

    assert conditions(found)["ContainersReady"] == "True"
    assert conditions(found)["Ready"] == "False"
