"""mesh explain of routes: what it prints is what the proxy's own planner and filters do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from destination.view import Client, look
from mesh.explain.decide import Decision, decide
from mesh.explain.question import find_asker, parse_question
from mesh.explain.render import render_json, render_text
from tests.explain.test_offline import compiled, manifests, workload
from tests.explain.test_proxy import planned
from tests.proxy.fakes import FakeDiscovery

HOSTS = ["web", "web-v1", "web-v2", "gone"]
TARGETS = ["/", "/a", "/a/b", "/ab", "/a/b/c?x=1", "/?x=1&y=2", "/b?x=2"]

paths: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.builds(dict, type=st.just("Exact"), value=st.sampled_from(["/a", "/a/b", "/b"])),
    st.builds(dict, type=st.just("PathPrefix"), value=st.sampled_from(["/", "/a", "/a/b"])),
    st.builds(dict, type=st.just("RegularExpression"), value=st.sampled_from(["/a.*", "/.", "["])),
)
matches = st.fixed_dictionaries(
    {},
    optional={
        "path": paths,
        "method": st.sampled_from(["GET", "POST"]),
        "headers": st.just([{"name": "X-A", "value": "1"}]),
        "queryParams": st.just([{"name": "x", "value": "1"}]),
    },
)
edits = st.just(
    {
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": "x-set", "value": "1"}]},
    }
)
rewrites = st.builds(
    lambda change: {"type": "URLRewrite", "urlRewrite": {"path": change}},
    st.sampled_from(
        [
            {"type": "ReplaceFullPath", "replaceFullPath": "/full"},
            {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
        ]
    ),
)
redirects = st.just(
    {"type": "RequestRedirect", "requestRedirect": {"hostname": "else.where", "statusCode": 301}}
)
unknown = st.just({"type": "ExtensionRef", "extensionRef": {"name": "x"}})
filters = st.lists(st.one_of(edits, rewrites, redirects, unknown), max_size=1)
backends = st.lists(
    st.builds(
        lambda name, weight, more: {"name": name, "port": 80, "weight": weight, "filters": more},
        st.sampled_from(HOSTS),
        st.integers(0, 5),
        st.lists(st.one_of(edits, rewrites, redirects), max_size=1),
    ),
    max_size=3,
)
rules = st.lists(
    st.fixed_dictionaries(
        {"filters": filters, "backendRefs": backends},
        optional={
            "matches": st.lists(matches, max_size=2),
            "timeouts": st.just({"request": "3s", "backendRequest": "1s"}),
            "retry": st.just({"codes": [503], "attempts": 2}),
        },
    ),
    min_size=1,
    max_size=4,
)
splits = st.none() | st.lists(
    st.tuples(st.sampled_from(HOSTS), st.integers(0, 4)), min_size=1, max_size=2
)


def objects(
    kinds: list[list[dict[str, Any]]], split: list[tuple[str, int]] | None, classes: list[Any]
) -> list[dict[str, Any]]:
    found = manifests(split or [], classes)
    if split is None:
        found = [item for item in found if item["kind"] != "TrafficSplit"]
    for at, made in enumerate(kinds):
        found.append(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": f"r{at}", "namespace": "shop"},
                "spec": {
                    "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
                    "rules": made,
                },
            }
        )
    return found


def replay(
    found: list[dict[str, Any]], method: str, target: str, draw: float
) -> tuple[Decision, Any]:
    """The replay, and the plan of a proxy that has the view of the same client."""
    world = compiled(found)
    asker = find_asker(world.store, "deploy/web", None)
    question = parse_question(method, f"http://web{target}", ())
    decision = decide(world.store, world.snapshot, asker, question, draw)
    discovery = FakeDiscovery()
    client = Client("shop", asker.pod.name if asker.pod is not None else "")
    discovery.view = look(world.snapshot, client, [decision.address], version=1).view
    return decision, planned(discovery, decision.address, method, target, draw)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(rules, min_size=1, max_size=2),
    splits,
    st.lists(st.just(({"method": "GET"}, 7)), max_size=1),
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(TARGETS),
    st.floats(0, 1, exclude_max=True),
)
def test_the_replay_of_a_route_ends_where_the_proxy_ends(
    kinds: list[list[dict[str, Any]]],
    split: list[tuple[str, int]] | None,
    classes: list[Any],
    method: str,
    target: str,
    draw: float,
) -> None:
    decision, plan = replay(objects(kinds, split, classes), method, target, draw)

    drawn = [leaf for leaf in decision.leaves if leaf.is_drawn]
    answer = drawn[0].answer if drawn else decision.answer
    request = parse_question(method, f"http://web{target}", ()).request()
    reply = plan.filters.answer(request, 80) if plan.filters is not None else None
    if reply is not None:  # filters answer before a backend is asked for
        expected: Any = (reply.status, reply.reason, plan.origin)
    elif not plan.backend.hops:
        outcome, status = plan.why_nobody()
        expected = (status, outcome.value.reason, plan.origin)
    else:
        expected = None
    if answer is not None and answer.reason == "no-rule":
        assert expected[:2] == (404, "no-rule")
    else:
        found = (answer.status, answer.reason, answer.origin) if answer is not None else None
        assert found == expected
    assert decision.policy == plan.policy
    assert decision.route == plan.route
    if expected is None:
        assert drawn[0].authority == plan.leaf
        assert [e.address for e in drawn[0].endpoints] == [
            hop.endpoint.address for hop in plan.backend.hops
        ]


ROUTE = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/api"}, "method": "GET"}],
    "filters": [
        {
            "type": "URLRewrite",
            "urlRewrite": {
                "hostname": "api.example",
                "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"},
            },
        }
    ],
    "timeouts": {"request": "3s"},
    "retry": {"codes": [503], "attempts": 2},
    "backendRefs": [{"name": "web-v1", "port": 80}],
}


def text_of(method: str, target: str) -> str:
    decision, _ = replay(objects([[ROUTE]], None, []), method, target, 0.5)
    json.loads(render_json(decision, "files"))
    return render_text(decision, "files")


@pytest.mark.parametrize(
    ("method", "target", "line"),
    [
        ("GET", "/api/x?q=1", "table       HTTPRoute/shop/r0: the only HTTPRoute of shop/web"),
        ("GET", "/api/x?q=1", "filters     rewritten to /v2/x?q=1, Host api.example"),
        ("GET", "/api/x", "+ HTTPRoute/shop/r0#0: met, timeout 3s"),
        ("GET", "/api/x", "timeout     3s"),
        ("GET", "/api/x", "at most 2, on 503, a lost connection, a try that takes too long"),
        ("GET", "/api/x", "budget: 20 % of the requests of 10s, and 10 a second"),
        ("GET", "/other", "404, mesh-reason: no-rule"),
        ("GET", "/other", '- HTTPRoute/shop/r0#0: path "/other" is not under "/api"'),
        ("PUT", "/api", "- HTTPRoute/shop/r0#0: method PUT is not GET"),
    ],
)
def test_the_chain_says_what_decides(method: str, target: str, line: str) -> None:
    assert line in text_of(method, target)


def test_breakers_and_annotations_of_a_service_are_shown() -> None:
    found = workload("web")
    found[0]["metadata"] = {
        **found[0]["metadata"],
        "annotations": {
            "balancer.linkerd.io/failure-accrual": "consecutive",
            "timeout.linkerd.io/idle": "9s",
        },
    }
    world = compiled(found)
    asker = find_asker(world.store, "deploy/web", None)

    decision = decide(
        world.store, world.snapshot, asker, parse_question("GET", "http://web/", ()), 0.5
    )

    text = render_text(decision, "files")
    assert "each out after 7 failures in a row for 1s to 60s" in text
    assert "silence: 9s" in text
