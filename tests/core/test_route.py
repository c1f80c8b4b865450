"""Request head + target + draw -> rule, backend, or the reason why there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.model import (
    Backend,
    Condition,
    Endpoint,
    Filters,
    Match,
    Policy,
    Profile,
    Redirect,
    Retry,
    RouteClass,
    Rule,
    Service,
    Source,
    Target,
)
from mesh.core.route import (
    CLASS_RETRY,
    NoBackend,
    RouteTable,
    RuleWeights,
    choose,
    failure_status,
    settle,
)
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


def test_a_redirect_asks_no_backend() -> None:
    rules = table(Rule((), filters=Filters(redirect=Redirect(hostname="elsewhere"))))

    found = choose(rules, Head(), 0.5, SERVICES)

    assert (found.backend, found.denial) == (None, None)
    assert rules.first_rule().redirects


def test_a_refused_backend_fails_its_share_though_its_service_is_there() -> None:
    rules = table(Rule((Backend(V1, refused="not-permitted"),), failure=500))

    found = choose(rules, Head(), 0.5, SERVICES)

    assert found.denial is NoBackend.INVALID_BACKEND
    assert failure_status(found.rule, NoBackend.INVALID_BACKEND) == 500


def test_each_denial_has_its_status() -> None:
    rule = Rule((), failure=500)

    assert [failure_status(rule, denial) for denial in NoBackend] == [404, 500, 500, 503, 500]


def test_connections_go_by_their_server_name() -> None:
    target = Target(
        "10.96.0.1:443",
        rules=(Rule((Backend(V1),), (Match(path="/x"),)),),
        connections=(
            Rule((Backend(V1),), (Match(sni=("*.shop.example",)),)),
            Rule((Backend(V2),)),
        ),
    )
    rules = RouteTable(target, pattern)

    drawn = [rules.find_connection(name) for name in ("Web.shop.example", "other", "")]

    assert [found.rule.backends[0].authority for found in drawn if found] == [V1, V2, V2]


def test_connections_without_rules_of_their_own_take_the_last_rule() -> None:
    rules = table(Rule((Backend(V1),), (Match(path="/x"),)), Rule((Backend(V2),)))

    found = rules.find_connection("any")

    assert found is not None
    assert found.rule.backends == (Backend(V2),)
    assert RouteTable(Target("a"), pattern).find_connection() is None


@pytest.mark.parametrize(
    ("own", "route", "base", "expected"),
    [
        (None, None, None, Policy()),
        (Policy(request=1), RouteClass("r", Condition(), timeout=2), None, Policy(request=1)),
        (None, RouteClass("r", Condition(), timeout=2), Policy(request=3), Policy(request=2)),
        (None, RouteClass("r", Condition()), Policy(request=3, idle=4), Policy(request=3, idle=4)),
        (Policy(request=0), None, Policy(request=3), Policy()),
        (Policy(attempt=1), None, Policy(headers=2), Policy(attempt=1, headers=2)),
        (None, RouteClass("r", Condition(), retryable=True), None, Policy(retry=CLASS_RETRY)),
        (Policy(retry=Retry(limit=0)), None, Policy(retry=Retry()), Policy()),
        (
            Policy(retry=Retry(limit=0)),
            RouteClass("r", Condition(), retryable=True),
            None,
            Policy(),
        ),
    ],
)
def test_the_rule_goes_before_the_class_and_that_before_the_service(
    own: Policy | None, route: RouteClass | None, base: Policy | None, expected: Policy
) -> None:
    assert settle(Rule((), policy=own, defaults=base), route) == expected
