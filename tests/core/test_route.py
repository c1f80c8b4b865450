"""Request head + target + draw -> rule, backend, or the reason why there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.model import (
    Backend,
    Condition,
    Endpoint,
    Match,
    Profile,
    RouteClass,
    Rule,
    Service,
    Source,
    Target,
)
from mesh.core.route import NoBackend, RouteTable, RuleWeights, choose
from tests.core.test_match import Head, pattern

V1, V2 = "v1.shop.svc:80", "v2.shop.svc:80"


def service(authority: str, *, endpoints: int = 1, exists: bool = True) -> Service:
    found = tuple(Endpoint(f"10.0.0.{i}", 80) for i in range(endpoints))
    return Service(authority, "shop", authority.split(".")[0], 80, found, exists=exists)


SERVICES = {V1: service(V1), V2: service(V2)}


def table(*rules: Rule, profile: Profile | None = None) -> RouteTable:
    return RouteTable(Target("10.96.0.1:80", rules=rules, profile=profile), pattern)


@pytest.mark.parametrize(("draw", "expected"), [(0.0, V1), (0.899, V1), (0.9, V2), (0.999999, V2)])
def test_weights_share_the_draws(draw: float, expected: str) -> None:
    rules = table(Rule((Backend(V1, 900), Backend(V2, 100))))

    found = choose(rules, Head(), draw, SERVICES)

    assert found.backend is not None
    assert found.backend.authority == expected
    assert found.denial is None


@given(
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=6),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_backend_of_weight_zero_gets_nothing(weights: list[int], draw: float) -> None:
    rule = Rule(tuple(Backend(f"{i}", weight) for i, weight in enumerate(weights)))

    found = RuleWeights(rule).draw_backend(draw)

    assert (found is None) == (sum(weights) == 0)
    assert found is None or found.weight > 0


def test_all_weights_zero_is_a_denial() -> None:
    rules = table(Rule((Backend(V1, 0), Backend(V2, 0))))

    assert choose(rules, Head(), 0.5, SERVICES).denial is NoBackend.NO_WEIGHT


def test_a_missing_leaf_keeps_its_share_and_fails_it() -> None:
    rules = table(Rule((Backend(V1), Backend("gone:80"))))

    good, bad = (choose(rules, Head(), draw, SERVICES) for draw in (0.2, 0.7))

    assert good.denial is None
    assert bad.denial is NoBackend.NO_SERVICE
    assert bad.backend == Backend("gone:80")


def test_a_leaf_without_endpoints_or_existence_is_named_apart() -> None:
    services = {V1: service(V1, endpoints=0), V2: service(V2, exists=False)}
    rules = table(Rule((Backend(V1), Backend(V2))))

    assert choose(rules, Head(), 0.0, services).denial is NoBackend.NO_ENDPOINTS
    assert choose(rules, Head(), 0.9, services).denial is NoBackend.NO_SERVICE


def test_the_first_rule_that_is_met_decides() -> None:
    canary = Rule((Backend(V2),), (Match(path_prefix="/new"),), index=0)
    rules = table(canary, Rule((Backend(V1),), index=1))

    assert choose(rules, Head(path="/new/x"), 0.5, SERVICES).rule == canary
    assert choose(rules, Head(path="/old"), 0.5, SERVICES).backend == Backend(V1)
    assert not rules.is_simple
    assert table(Rule((Backend(V1),))).is_simple


def test_no_rule_is_a_denial() -> None:
    rules = table(Rule((Backend(V1),), (Match(path="/only"),)))

    assert choose(rules, Head(path="/other"), 0.5, SERVICES).denial is NoBackend.NO_RULE


def test_a_route_class_names_a_request() -> None:
    profile = Profile(
        Source("ServiceProfile", "shop", "web"),
        (
            RouteClass("one", Condition(path_regex="/items/\\d+")),
            RouteClass("rest", Condition(method="POST")),
        ),
    )
    rules = table(Rule((Backend(V1),)), profile=profile)

    names = []
    for head in (Head(path="/items/7"), Head(method="POST"), Head()):
        found = rules.find_class(head)
        names.append(found.route.name if found is not None else None)

    assert names == ["one", "rest", None]


def test_a_pattern_that_does_not_compile_is_a_value_error() -> None:
    def refuse(text: str) -> object:
        raise ValueError(text)

    with pytest.raises(ValueError, match="a\\["):
        RouteTable(Target("a", rules=(Rule((), (Match(path_regex="a["),)),)), refuse)  # type: ignore[arg-type]
