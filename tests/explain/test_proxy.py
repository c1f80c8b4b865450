"""mesh explain against the proxy's own planner: 500 generated cases, no mismatch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from destination.view import Client, look
from mesh.explain.decide import Decision, decide
from mesh.explain.question import find_asker, parse_question
from proxy.dial import Dialler
from proxy.heads import path_of
from proxy.http1 import Request
from proxy.patterns import compile_pattern
from proxy.plan import Plan
from proxy.targets import Targets, TargetState
from proxy.telemetry import Telemetry
from tests.explain.test_offline import compiled, manifests, methods, paths, routes, splits
from tests.proxy.fakes import FakeDiscovery


def planned(discovery: FakeDiscovery, address: str, method: str, path: str, draw: float) -> Plan:
    """What the outbound side of a proxy with this view makes of a request."""
    credentials = SimpleNamespace(on_change=lambda callback: None)
    loop, flusher = SimpleNamespace(), SimpleNamespace()
    targets = Targets(
        discovery=discovery,
        dialler=Dialler(
            cast(Any, loop), cast(Any, credentials), cast(Any, flusher),
            timeout=1.0, mesh_namespace="mesh",
        ),
        telemetry=Telemetry(0.0),
        pattern=compile_pattern,
        own_addresses=frozenset(),
    )  # fmt: skip
    found: list[TargetState] = []
    targets.find(address, found.append)
    return found[0].plan(Request(method.encode(), path.encode(), []), lambda: draw)


def ended(decision: Decision) -> tuple[object, ...]:
    """Backend, addresses, reason, origin, route and timeout of a replay."""
    drawn = [leaf for leaf in decision.leaves if leaf.is_drawn]
    if not drawn:
        assert decision.answer is not None
        return (decision.answer.reason,)
    answer = drawn[0].answer
    return (
        drawn[0].authority,
        sorted(f"{e.address}:{e.port} {e.identity}" for e in drawn[0].endpoints),
        (answer.reason, answer.origin) if answer is not None else None,
        decision.route,
        decision.timeout,
    )


def ended_in_proxy(plan: Plan) -> tuple[object, ...]:
    if plan.denial is not None:
        return (plan.denial.value.reason,)
    denial = plan.backend.denial
    return (
        plan.leaf,
        sorted(
            f"{hop.endpoint.address}:{hop.endpoint.port} {hop.endpoint.identity}"
            for hop in plan.backend.hops
        ),
        (denial.value.reason, plan.origin) if denial is not None else None,
        plan.route,
        plan.timeout,
    )


@settings(max_examples=500, deadline=None)
@given(
    splits, routes, methods, paths, st.floats(0, 1, exclude_max=True), st.sampled_from(["", "on"])
)
def test_the_replay_ends_where_the_proxy_ends(
    split: list[tuple[str, int]],
    classes: list[Any],
    method: str,
    path: str,
    draw: float,
    meshed: str,
) -> None:
    objects = manifests(split, classes)
    if meshed:
        meta = {"name": "shop", "annotations": {"linkerd.io/inject": "enabled"}}
        objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    found = compiled(objects)
    asker = find_asker(found.store, "deploy/web", None)
    question = parse_question(method, f"http://web{path}", ())

    decision = decide(found.store, found.snapshot, asker, question, draw)

    discovery = FakeDiscovery()
    client = Client("shop", asker.pod.name if asker.pod is not None else "")
    discovery.view = look(found.snapshot, client, [decision.address], version=1).view
    assert question.head().path == path_of(path.encode())
    plan = planned(discovery, decision.address, method, path, draw)
    assert ended(decision) == ended_in_proxy(plan)
