"""How a Service says that its endpoints are picked."""

from __future__ import annotations

import pytest

from destination.store import SERVICES
from mesh.core.model import BackendPolicy, Balancing, HashKey
from tests.destination.world import World, service


def compiled(text: str) -> tuple[BackendPolicy | None, list[str]]:
    """The policy of a Service with this annotation, and what was wrong with it."""
    world = World([service("web", annotations={"mesh/balancer": text})])
    found = world.snapshot.units["shop", "web"].ports[80].service.policy
    outcomes = [one for ref, one in world.snapshot.outcomes.items() if ref.resource == SERVICES]
    return found, [problem.message for one in outcomes for problem in one.problems]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("ewma", None),
        ("least-request", BackendPolicy(Balancing.LEAST_REQUEST)),
        ("round-robin", BackendPolicy(Balancing.ROUND_ROBIN)),
        ("random", BackendPolicy(Balancing.RANDOM)),
        ("hash-header:X-User", BackendPolicy(Balancing.HASH, HashKey(header="x-user"))),
        ("hash-cookie:Session", BackendPolicy(Balancing.HASH, HashKey(cookie="Session"))),
    ],
)
def test_a_balancer_is_chosen_by_its_name(text: str, policy: BackendPolicy | None) -> None:
    assert compiled(text) == (policy, [])


@pytest.mark.parametrize("text", ["", "fastest", "hash", "hash-header:", "hash-header:a b"])
def test_what_is_no_balancer_is_said_and_has_no_effect(text: str) -> None:
    policy, problems = compiled(text)

    assert policy is None
    assert len(problems) == 1
    assert problems[0].startswith("expected one of ewma, least-request")
