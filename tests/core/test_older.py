"""What an older proxy does not know is refused, never ignored."""

from __future__ import annotations

import pytest
from msgspec.structs import fields, replace

from mesh.core.model import (
    Backend,
    Budget,
    Filters,
    HeaderEdit,
    HeaderMatch,
    Match,
    Policy,
    Protocol,
    QueryMatch,
    Rule,
    Source,
    Target,
    Update,
)
from mesh.core.older import for_wire
from mesh.core.wire import WIRE_VERSION

WEB = Backend("web.shop.svc.cluster.local:80", 3)
ROUTE = Source("HTTPRoute", "shop", "web")


def lowered(*rules: Rule, target: Target | None = None) -> Target:
    target = target or Target("10.96.0.1:80")
    update = Update(1, {"10.96.0.1:80": replace(target, rules=rules), "10.96.0.2:80": None})
    found = for_wire(update, 1)
    assert found.targets["10.96.0.2:80"] is None
    result = found.targets["10.96.0.1:80"]
    assert result is not None
    return result


def test_a_proxy_of_this_version_gets_the_update_itself() -> None:
    update = Update(1, {"a:1": Target("a:1", rules=(Rule((WEB,), filters=Filters()),))})

    assert for_wire(update, WIRE_VERSION) is update


def test_what_an_older_proxy_knows_stays_as_it_is() -> None:
    match = Match(path_prefix="/a", method="GET", headers=(HeaderMatch("a", "b"),))
    rule = Rule((WEB,), (match,), source=ROUTE, index=2)

    assert lowered(rule).rules == (rule,)


@pytest.mark.parametrize(
    "part",
    [
        Match(path="/a", query=(QueryMatch("a", "1"),)),
        Match(path="/a", without_headers=(HeaderMatch("a", "1"),)),
        Match(path="/a", also=Match(method="GET")),
    ],
)
def test_a_rule_with_an_unknown_condition_refuses_all_that_it_may_mean(part: Match) -> None:
    (rule,) = lowered(Rule((WEB,), (part,), source=ROUTE)).rules

    assert rule.matches == (Match(path="/a"),)
    assert rule.backends[0].authority == "refused.invalid:0"
    assert rule.source == ROUTE


def test_a_path_whose_case_counts_no_more_widens_to_every_path() -> None:
    (rule,) = lowered(Rule((WEB,), (Match(path="/a", ignore_case=True),))).rules

    assert rule.matches == (Match(),)
    assert WEB not in rule.backends


@pytest.mark.parametrize(
    "rule",
    [
        Rule((WEB,), filters=Filters(request=HeaderEdit(remove=("x",)))),
        Rule((replace(WEB, filters=Filters(request=HeaderEdit(remove=("x",)))),)),
    ],
)
def test_a_rule_with_filters_is_refused(rule: Rule) -> None:
    (found,) = lowered(rule).rules

    assert found.backends[0].authority == "refused.invalid:0"


def test_only_the_share_of_a_refused_backend_is_refused() -> None:
    (rule,) = lowered(Rule((WEB, replace(WEB, refused="not-permitted")))).rules

    assert [backend.authority for backend in rule.backends] == [
        WEB.authority,
        "refused.invalid:0",
    ]


def test_patience_is_left_out() -> None:
    rule = Rule((WEB,), policy=Policy(request=1), defaults=Policy(idle=1), failure=500, name="n")

    found = lowered(rule, target=Target("10.96.0.1:80", budget=Budget()))

    assert found == Target("10.96.0.1:80", rules=(Rule((WEB,)),))


def test_connections_go_where_their_rules_say_or_nowhere() -> None:
    tcp = Rule((Backend("db.shop.svc.cluster.local:5432"),))
    http = Rule((WEB,))

    opaque = lowered(http, target=Target("a:1", protocol=Protocol.OPAQUE, connections=(tcp,)))
    detected = lowered(http, target=Target("a:1", connections=(tcp,)))

    assert opaque.rules == (tcp,)
    assert detected.rules[0] == http
    assert detected.rules[-1].backends[0].authority == "refused.invalid:0"
    assert opaque.connections == detected.connections == ()


def test_every_field_of_a_rule_and_a_match_has_been_thought_of() -> None:
    known = {"backends", "matches", "source", "index"}
    refused = {"filters"}
    left_out = {"name", "policy", "defaults", "failure"}

    assert {field.name for field in fields(Rule)} == known | refused | left_out
    assert {field.name for field in fields(Backend)} == {
        "authority",
        "weight",
        "filters",
        "refused",
        "source",
    }
