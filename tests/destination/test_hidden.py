"""A rule that is never met says so in the status of its route, and names what goes before it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from destination.fragments import Outcome
from destination.status import verdict_text
from mesh.core.model import Verdict
from mesh.core.route import RouteTable
from mesh.explain.question import parse_question
from proxy.patterns import compile_pattern
from tests.destination.routing import V1, V2, names, route, rules, world

OLD = "2025-01-01T00:00:00Z"
SAME = "matches: [{path: {value: /x}, method: GET}]"
APART = "matches: [{path: {value: /y}}]"


def never_met(outcome: Outcome) -> dict[str, str]:
    return {p.path: p.message for p in outcome.problems if p.reason == "UnreachableRule"}


def test_a_route_of_which_every_match_is_an_older_ones_is_shadowed_by_it() -> None:
    found = world(
        route(f"[{{{SAME}, {V1}}}]", name="late"), route(f"[{{{SAME}, {V2}}}]", created=OLD)
    )

    outcome = found.outcome("httproutes", "late")

    assert names(found)[0] == "web-v2"
    assert verdict_text(outcome) == "Shadowed by HTTPRoute/shop/web"
    assert never_met(outcome) == {
        "spec.rules[0]": "this rule is never met: HTTPRoute/shop/web#0 is tried before it and has "
        "the same matches"
    }
    assert [parent.accepted for parent in outcome.parents] == ["Accepted"]
    assert found.outcome("httproutes", "web").verdict is Verdict.EFFECTIVE


def test_a_route_without_matches_hides_a_younger_one_without_any() -> None:
    found = world(route(f"[{{{V1}}}]", name="late"), route(f"[{{{V2}}}]", created=OLD))

    assert verdict_text(found.outcome("httproutes", "late")) == "Shadowed by HTTPRoute/shop/web"


def test_what_a_route_has_besides_still_acts() -> None:
    found = world(
        route(f"[{{{SAME}, {V1}}}, {{{APART}, {V1}}}]", name="late"),
        route(f"[{{{SAME}, {V2}}}]", created=OLD),
    )

    outcome = found.outcome("httproutes", "late")

    assert outcome.verdict is Verdict.PARTIAL
    assert list(never_met(outcome)) == ["spec.rules[0]"]


def test_a_second_rule_with_the_same_matches_is_said() -> None:
    outcome = world(route(f"[{{{SAME}, {V1}}}, {{{SAME}, {V2}}}]")).outcome("httproutes", "web")

    assert outcome.verdict is Verdict.PARTIAL
    assert "rules[0] is tried before it" in never_met(outcome)["spec.rules[1]"]


def test_one_match_that_is_its_own_is_enough() -> None:
    both = "matches: [{path: {value: /x}, method: GET}, {path: {value: /y}}]"
    found = world(
        route(f"[{{{both}, {V1}}}]", name="late"), route(f"[{{{SAME}, {V2}}}]", created=OLD)
    )

    assert found.outcome("httproutes", "late").verdict is Verdict.EFFECTIVE


def test_a_route_that_is_hidden_on_one_of_its_ports_only_acts() -> None:
    on_http = "{group: '', kind: Service, name: web, port: 80}"
    found = world(
        route(f"[{{{SAME}, {V1}}}]", name="late"),
        route(f"[{{{SAME}, {V2}}}]", created=OLD, parent=on_http),
    )

    assert found.outcome("httproutes", "late").verdict is Verdict.EFFECTIVE


def test_the_order_in_which_headers_stand_makes_no_other_match() -> None:
    def both(first: str, second: str) -> str:
        return (
            f"matches: [{{headers: [{{name: {first}, value: x}}, {{name: {second}, value: x}}]}}]"
        )

    found = world(
        route(f"[{{{both('a', 'b')}, {V1}}}]", name="late"),
        route(f"[{{{both('b', 'a')}, {V2}}}]", created=OLD),
    )

    assert found.outcome("httproutes", "late").verdict is Verdict.SHADOWED


conditions = st.fixed_dictionaries(
    {},
    optional={
        "path": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]),
                "value": st.sampled_from(["/", "/a", "/a/b"]),
            }
        ),
        "method": st.sampled_from(["GET", "POST"]),
        "headers": st.just([{"name": "x", "value": "1"}]),
    },
)
tables = st.lists(st.lists(st.lists(conditions, max_size=2), min_size=1, max_size=3), max_size=3)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_what_is_called_never_met_is_never_met(made: list[list[list[dict[str, str]]]]) -> None:
    found = world(
        *(
            route([{"matches": matches} for matches in rules], name=f"r{at}")
            for at, rules in enumerate(made)
        )
    )

    hidden = {
        (f"r{at}", int(path[len("spec.rules[") : -1]))
        for at in range(len(made))
        for path in never_met(found.outcome("httproutes", f"r{at}"))
    }

    table = RouteTable(found.target("10.96.0.1:80"), compile_pattern)
    for path in ("/", "/a", "/a/b", "/c"):
        for method in ("GET", "POST", "PUT"):
            for headers in ([], ["x: 1"]):
                head = parse_question(method, f"http://web{path}", headers).head()
                rule = table.find_rule(head)
                source = rule.rule.source if rule is not None else None
                assert (
                    rule is None or source is None or (source.name, rule.rule.index) not in hidden
                )


def test_clients_of_another_namespace_have_a_table_of_their_own() -> None:
    found = world(
        route(f"[{{{SAME}, {V1}}}]", name="consumer", namespace="team"),
        route(f"[{{{SAME}, {V2}}}]", created=OLD),
    )

    assert never_met(found.outcome("httproutes", "consumer", "team")) == {}


def test_it_acts_as_soon_as_the_older_one_goes() -> None:
    late, old = route(f"[{{{SAME}, {V1}}}]", name="late"), route(f"[{{{SAME}, {V2}}}]", created=OLD)
    found = world(late, old)

    found.put(old, deleted=True)

    assert found.outcome("httproutes", "late").verdict is Verdict.EFFECTIVE


def test_of_tls_routes_with_one_server_name_the_older_counts() -> None:
    found = world(
        route(f"[{{{V1}}}]", kind="TLSRoute", name="late", hostnames=["DB.example"]),
        route(f"[{{{V2}}}]", kind="TLSRoute", created=OLD, hostnames=["db.example", "a.example"]),
    )

    assert verdict_text(found.outcome("tlsroutes", "late")) == "Shadowed by TLSRoute/shop/web"
    assert found.outcome("tlsroutes", "web").verdict is Verdict.EFFECTIVE


@pytest.mark.parametrize("kind", ["TCPRoute", "TLSRoute"])
def test_connections_have_one_rule_and_what_comes_after_is_said(kind: str) -> None:
    found = world(route(f"[{{{V1}}}, {{{V2}}}]", kind=kind, hostnames=["a"]))

    outcome = found.outcome(f"{kind.lower()}s", "web")

    assert outcome.verdict is Verdict.PARTIAL
    assert list(never_met(outcome)) == ["spec.rules[1]"]


@pytest.mark.parametrize("name", ["a.*.com", "1.2.3.4", "*", "a_b.example", "", "-a.example"])
def test_what_is_no_name_of_a_server_is_said_and_means_nothing(name: str) -> None:
    named = route(f"[{{{V1}}}]", kind="TLSRoute", hostnames=["db.example", name])

    found = world(named)

    outcome = found.outcome("tlsroutes", "web")
    assert [problem.path for problem in outcome.problems] == ["spec.hostnames[1]"]
    known = [
        match.sni for rule in found.target("10.96.0.1:80").connections for match in rule.matches
    ]
    assert known == [("db.example",), ("",)]


def test_a_tls_route_without_any_name_of_a_server_is_rejected() -> None:
    found = world(route(f"[{{{V1}}}]", kind="TLSRoute", hostnames=["1.2.3.4"]))

    assert found.outcome("tlsroutes", "web").verdict is Verdict.REJECTED
    assert rules(found)[0].source is None
