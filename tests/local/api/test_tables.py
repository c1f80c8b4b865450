"""Tables: ages, pod words, printer columns, and the JSONPath behind them."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.api import columns, jsonpath, tables
from mesh.local.api.resources import Column, CustomVersion, Registry, Resource


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (600, "10m"),
        (10_799, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (800 * 86400, "2y70d"),
        (-0.5, "0s"),
        (-5, "<invalid>"),
    ],
)
def test_ages_are_printed_as_kubectl_does(seconds: float, text: str) -> None:
    assert columns.human_duration(seconds) == text


def waiting(reason: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}}


def ended(code: int, reason: str = "") -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "reason": reason}}}


def running(*, ready: bool = True) -> dict[str, Any]:
    return {"state": {"running": {}}, "ready": ready, "started": True}


def pod(*main: Any, init: Any = (), sidecars: Any = (), **status: Any) -> dict[str, Any]:
    names = [f"i{n}" for n in range(len(init))] + [f"s{n}" for n in range(len(sidecars))]
    statuses = [{"name": n, **one} for n, one in zip(names, (*init, *sidecars), strict=True)]
    return {
        "metadata": {},
        "spec": {
            "containers": [{"name": f"c{n}"} for n in range(len(main))],
            "initContainers": [
                {"name": n, **({"restartPolicy": "Always"} if n[0] == "s" else {})} for n in names
            ],
        },
        "status": {
            "phase": "Pending",
            "initContainerStatuses": statuses,
            "containerStatuses": [{"name": f"c{n}", **one} for n, one in enumerate(main)],
            **status,
        },
    }


READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("obj", "ready", "word"),
    [
        (pod({}, phase="Pending"), "0/1", "Pending"),
        (pod(waiting("ContainerCreating")), "0/1", "ContainerCreating"),
        (pod(running(), phase="Running"), "1/1", "Running"),
        (pod(running(), running(ready=False), phase="Running"), "1/2", "Running"),
        (pod(waiting("CrashLoopBackOff"), phase="Running"), "0/1", "CrashLoopBackOff"),
        (pod(ended(0, "Completed"), phase="Succeeded"), "0/1", "Completed"),
        (pod(ended(3), phase="Failed"), "0/1", "ExitCode:3"),
        (pod({}, init=[running(), waiting("PodInitializing")]), "0/1", "Init:0/2"),
        (pod({}, init=[ended(0), running()]), "0/1", "Init:1/2"),
        (pod({}, init=[ended(1, "Error")]), "0/1", "Init:Error"),
        (pod({}, init=[waiting("CrashLoopBackOff")]), "0/1", "Init:CrashLoopBackOff"),
        (pod(running(), sidecars=[running()], phase="Running"), "2/2", "Running"),
        (pod(running(), sidecars=[running(ready=False)], phase="Running"), "1/2", "Running"),
        (
            pod(ended(0, "Completed"), running(), phase="Running", conditions=READY),
            "1/2",
            "Running",
        ),
        (pod(ended(0, "Completed"), running(), phase="Running"), "1/2", "NotReady"),
        ({**pod(running()), "metadata": {"deletionTimestamp": "x"}}, "1/1", "Terminating"),
        (pod({}, phase="Failed", reason="Evicted"), "0/1", "Evicted"),
    ],
)
def test_a_pods_word_says_what_holds_it(obj: dict[str, Any], ready: str, word: str) -> None:
    found, total, shown, _, _ = columns.pod_status(obj)

    assert (f"{found}/{total}", shown) == (ready, word)


def test_every_built_in_kind_has_cells_for_its_columns() -> None:
    empty = {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}

    for resource in Registry():
        found = tables.table(resource, resource.version, [empty], now=1.8e9)
        (row,) = found["rows"]
        assert len(row["cells"]) == len(found["columnDefinitions"]), resource.key


def test_custom_columns_show_values_by_type() -> None:
    version = CustomVersion(
        "v1",
        {},
        (
            Column("Size", "integer", ".spec.size"),
            Column("Wrong", "integer", ".spec.name"),
            Column("On", "boolean", ".spec.on"),
            Column("Names", "string", ".spec.items[*].name"),
            Column("Missing", "string", ".spec.missing"),
            Column("Age", "date", ".metadata.creationTimestamp"),
        ),
    )
    resource = Resource("x.y", "v1", "things", "Thing", custom=(version,))
    obj = {
        "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"size": 3, "name": "n", "on": True, "items": [{"name": "p"}, {"name": "q"}]},
    }

    found = tables.table(resource, "v1", [obj], now=60.0)

    assert found["rows"][0]["cells"] == ["a", 3, None, True, "p", None, "60s"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        ("{.a.b}", [1]),
        ("$.list[0].n", ["x"]),
        (".list[-1].n", ["y"]),
        (".list[5]", []),
        (".list[*].n", ["x", "y"]),
        ('.list[?(@.n=="y")].v', [2]),
        (".list[?(@.v!=2)].n", ["x"]),
        (r".dotted\.key", [3]),
        ("['dotted.key']", [3]),
        (".list[broken", []),
        (".a.b.c", []),
    ],
)
def test_a_json_path_finds(path: str, found: list[Any]) -> None:
    obj = {"a": {"b": 1}, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "dotted.key": 3}

    assert jsonpath.find(path, obj) == found
