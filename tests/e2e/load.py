"""The shop's load generator as tests use it: a rate, a target, and what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from mesh.local.shop import manifests
from tests.e2e.stage import Stage, eventually


@contextmanager
def loaded_with(stage: Stage, rate: float, target: str = "catalogue") -> Iterator[None]:
    """So many requests a second, with the catalogue's share all at its first version."""
    split(stage, 100, 0)
    stage.load(f"/resume?rate={rate:g}&target={target}", "POST")
    try:
        yield
    finally:
        stage.load("/resume?rate=20", "POST")
        stage.kubectl("delete", "trafficsplit", "catalogue", "-n", "shop")


def split(stage: Stage, v1: int, v2: int) -> None:
    """Weights of the catalogue's two versions."""
    stage.apply(yaml.safe_dump_all(manifests.split(v1, v2)))


def wait_for_requests(stage: Stage, count: int) -> None:
    """Until so many more have been sent."""
    sent = eventually(lambda: stage.load("/stats"))["sent"]
    eventually(lambda: stage.load("/stats")["sent"] >= sent + count)


def failed_since(stage: Stage, began: float) -> list[Any]:
    """Answers other than 200 to what was asked after `began` (unix seconds)."""
    return [row for row in stage.load(f"/recent?since={began}") if row[2] != 200]


def told(failed: list[Any]) -> list[str]:
    """The same in a line for each reason, so that a failed test says what happened."""
    reasons: dict[str, list[float]] = {}
    for asked, _, status, reason in failed:
        reasons.setdefault(f"{status} {reason}", []).append(asked)
    return [
        f"{len(times)} x {reason}, asked {min(times):.2f} to {max(times):.2f}"
        for reason, times in reasons.items()
    ]


def sent_to(stage: Stage, endpoint: str) -> float:
    """Requests of the load generator's proxy to one `address:port`."""
    (load,) = stage.pods("app=load")
    return sum(
        float(line.rpartition(" ")[2])
        for line in stage.metrics(load["status"]["podIP"])
        if line.startswith("request_total{") and f'target_addr="{endpoint}"' in line
    )
