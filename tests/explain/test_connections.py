"""mesh explain of what nobody reads: connections, their server names, TLSRoute and TCPRoute."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from destination.view import Client, look
from mesh.explain.commands import explain
from mesh.explain.decide import Decision, decide
from mesh.explain.live import lines_of, outcome_of, question_for, view_of
from mesh.explain.question import find_asker, parse_question
from mesh.explain.render import render_text
from tests.destination.routing import V1, V2, route
from tests.explain.test_offline import compiled, workload
from tests.explain.test_on_the_wire import started

NAMES = ["a.example", "b.example", "*.example", "*.b.example", "web"]
ALL = [*workload("web"), *workload("web-v1"), *workload("web-v2")]
OLD = "2025-01-01T00:00:00Z"


def asked(objects: list[dict[str, Any]], url: str, *headers: str) -> Decision:
    found = compiled([*ALL, *objects])
    asker = find_asker(found.store, "deploy/web", None)
    question = parse_question("GET", url, headers)
    return decide(found.store, found.snapshot, asker, question, None)


def names(decision: Decision) -> list[str]:
    return [leaf.authority.partition(".")[0] for leaf in decision.leaves]


def test_a_tls_route_is_replayed_by_the_name_that_the_client_asks_for() -> None:
    by_name = route(f"[{{{V1}}}]", kind="TLSRoute", hostnames=["db.example"])

    met = asked([by_name], "https://web:80/", "Host: DB.example:443")
    unmet = asked([by_name], "https://web:80/")

    assert names(met) == ["web-v1"]
    assert [(tried.name, tried.why) for tried in unmet.rules] == [
        ("TLSRoute/shop/web#0", "expected server name db.example; got web"),
        ("the Service itself", "expected server name none; got web"),
    ]
    text = render_text(unmet, "files", "", [])
    assert "none of these rules is met" in text
    assert "the connection is closed: no-rule" in text


def test_an_address_is_no_server_name() -> None:
    question = parse_question("GET", "https://10.0.0.1:443/", ())

    assert question.server_name == ""


def test_the_host_of_a_header_is_what_the_request_says() -> None:
    question = parse_question("GET", "http://web/", ["Host: other.example"])

    assert question.head().values("host") == ["other.example"]
    assert question.host == "web"


def test_of_several_tcp_routes_the_oldest_is_told_to_own_the_table() -> None:
    two = [
        route(f"[{{{V1}}}]", kind="TCPRoute", name="late"),
        route(f"[{{{V2}}}]", kind="TCPRoute", created=OLD),
    ]
    opaque = [obj for obj in ALL if obj["kind"] == "Service" and obj["metadata"]["name"] == "web"]
    marked = opaque[0]["metadata"] | {"annotations": {"mesh/opaque-ports": "80"}}

    decision = asked([*two, opaque[0] | {"metadata": marked}], "http://web/")

    assert names(decision) == ["web-v2"]
    assert decision.why_owner == "the oldest of 2 TCPRoutes of shop/web"


def test_the_command_takes_a_host_for_the_server_name(tmp_path: Path) -> None:
    by_name = route(f"[{{{V1}}}]", kind="TLSRoute", hostnames=["db.example"])
    (tmp_path / "a.yaml").write_text("\n---\n".join(map(str, [*ALL, by_name])))
    words = ["-f", str(tmp_path), "--from", "deploy/web", "https://web:80/", "-H"]

    said = CliRunner().invoke(explain, [*words, "Host: db.example"]).output

    assert "+ TLSRoute/shop/web#0: met" in said


tables = st.lists(
    st.tuples(
        st.sampled_from(["TLSRoute", "TCPRoute", "HTTPRoute"]),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
        st.lists(
            st.tuples(st.sampled_from(["web", "web-v1", "gone"]), st.integers(0, 3)), min_size=1
        ),
    ),
    max_size=3,
)


@pytest.mark.timeout(120)
def test_generated_connections_end_in_the_proxy_as_explained(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        live = runner.run(started(tmp_path))

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(tables, st.sampled_from(["", *NAMES]), st.floats(0, 1, exclude_max=True))
        def check(made: list[Any], name: str, draw: float) -> None:
            objects = []
            for index, (kind, hosts, shares) in enumerate(made):
                refs = [{"name": n, "port": 80, "weight": weight} for n, weight in shares]
                more = {"hostnames": hosts} if kind == "TLSRoute" else {}
                rules = [{"backendRefs": refs}]
                objects.append(route(rules, kind=kind, name=f"r{index}", **more))
            found = compiled([*ALL, *objects])
            asker = find_asker(found.store, "deploy/web", None)
            heads = [f"Host: {name}"] if name else []
            question = parse_question("GET", "https://web:80/", heads)
            offline = decide(found.store, found.snapshot, asker, question, draw)
            view = look(found.snapshot, Client("shop", "web-0"), [offline.address], version=1).view
            live.show(view, offline.address)

            told = live.told(question_for(question, offline.address, draw))

            replayed = decide(found.store, found.snapshot, asker, question, draw, view_of(told))
            assert outcome_of(replayed)[1:] == outcome_of(offline)[1:]
            own = told["decision"]
            assert (own["status"], own["reason"]) == outcome_of(offline)[2:]
            assert not [line for line in lines_of(told, replayed, offline) if "DIFFERS" in line]

        try:
            check()
        finally:
            runner.run(live.stop())
