from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click
import pytest
from msgspec import structs

from mesh.core import labels
from mesh.core.report import Counts, Series, SeriesKey, WindowReport
from mesh.stat.rows import Cluster, Row, newest_reports, rows_of
from mesh.stat.selection import KINDS, Selection, parse_resources
from mesh.stat.table import render_json, render_table
from tests.stat.traffic import INBOUND, ProxySim
from tests.support.golden import check_golden

Object = dict[str, Any]
NOW = 100.0
DOMAIN = "shop.svc.cluster.local:80"


def select(word: str, *names: str) -> Selection:
    return parse_resources([word, *names])[0]


def named(name: str, namespace: str = "shop", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def pod(
    name: str, owner: str, *, meshed: bool = True, phase: str = "Running", **tags: str
) -> Object:
    containers = [{"name": "app"}, *([{"name": "mesh-proxy"}] if meshed else [])]
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"pod-template-hash": "6f", **tags},
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"{owner}-6f", "controller": True}],
        },
        "spec": {"containers": containers},
        "status": {"phase": phase},
    }


def outbound(apex: str, leaf: str = "") -> SeriesKey:
    return SeriesKey(
        "outbound", "http", apex=f"{apex}.{DOMAIN}", leaf=f"{leaf}.{DOMAIN}" if leaf else ""
    )


def shop() -> Cluster:
    """web: two meshed pods and a finished one; plain: not meshed; web calls catalogue 9:1."""
    proxies = [
        ProxySim("web-1", rate=10, begin=0, end=1000, failure_every=4),
        ProxySim("web-2", rate=10, begin=0, end=1000, latency=0.5),
        ProxySim("web-1", rate=9, begin=0, end=1000, key=outbound("catalogue", "catalogue-v1")),
        ProxySim("web-2", rate=1, begin=0, end=1000, key=outbound("catalogue", "catalogue-v2")),
    ]
    reports = [report for proxy in proxies if (report := proxy.window(NOW))]
    merged = [
        structs.replace(reports[n], series=reports[n].series + reports[n + 2].series)
        for n in range(2)
    ]
    backends = [
        {"service": "catalogue-v1", "weight": "900m"},
        {"service": "catalogue-v2", "weight": "100m"},
        {"service": "catalogue-v3", "weight": 0},
    ]
    pods = [
        pod("web-1", "web"),
        pod("web-2", "web"),
        pod("web-0", "web", phase="Succeeded"),
        pod("plain-1", "plain", meshed=False),
    ]
    return Cluster(
        objects={
            "namespace": [{"metadata": {"name": "shop"}}],
            "deployment": [named("web"), named("plain")],
            "pod": pods,
            "service": [named("catalogue"), named("other")],
            "trafficsplit": [named("canary", service="catalogue", backends=backends)],
        },
        pods=pods,
        reports=merged,
    )


def rows(word: str, *names: str, unmeshed: bool = False) -> list[Row]:
    return rows_of(select(word, *names), shop(), unmeshed=unmeshed)


def test_a_deployment_sums_what_came_into_its_pods() -> None:
    (web,) = rows("deploy")

    assert (web.name, web.meshed) == ("web", (2, 2))
    assert web.figures.requests == pytest.approx(1200, abs=2)
    assert web.figures.rps == pytest.approx(20, rel=0.02)
    assert web.figures.p99 == pytest.approx(0.5, rel=0.05)


def test_what_the_kubelet_asks_is_not_in_the_figures() -> None:
    cluster = shop()
    probes = structs.replace(INBOUND, route=labels.PROBE_ROUTE, apex="")
    probed = ProxySim("web-1", rate=1, begin=0, end=1000, key=probes).window(NOW)
    assert probed is not None
    first, *others = cluster.reports
    both = structs.replace(first, series=first.series + probed.series)

    (web,) = rows_of(select("deploy"), replace(cluster, reports=[both, *others]))

    assert web.figures == rows("deploy")[0].figures


def test_workloads_without_a_proxy_show_only_when_asked_for() -> None:
    assert [row.name for row in rows("deploy", unmeshed=True)] == ["plain", "web"]
    assert [row.meshed for row in rows("deploy", "plain")] == [(0, 1)]


def test_a_split_shows_the_share_that_each_leaf_really_got() -> None:
    first, second, third = rows("ts")

    assert [(row.leaf, row.weight) for row in (first, second, third)] == [
        ("catalogue-v1", "900m"),
        ("catalogue-v2", "100m"),
        ("catalogue-v3", "0"),
    ]
    assert first.share == pytest.approx(0.9, abs=0.01)
    assert second.share == pytest.approx(0.1, abs=0.01)
    assert third.share == 0
    assert first.figures.read_rate is first.figures.write_rate is None, "bytes have no leaf"


def test_a_service_counts_what_meshed_clients_sent_to_it() -> None:
    by_name = {row.name: row.figures for row in rows("svc")}

    assert by_name["catalogue"].rps == pytest.approx(10, rel=0.02)
    assert by_name["other"].rps is None


def test_a_service_counts_connections_to_the_pods_that_it_selects() -> None:
    """The pool's connection carries no service's name, and its bytes may serve several."""
    key = SeriesKey("outbound", "tcp", peer_namespace="shop", peer_pod="web-1")
    counts = Counts(opened=3, open=2, read_bytes=600)
    report = WindowReport(
        "shop", "client", 0.0, 60.0, 1.0, True, (Series(key, counts),), incarnation="a"
    )
    cluster = Cluster(
        {"service": [named("web", selector={"run": "web"}), named("bare")]},
        [pod("web-1", "web", run="web"), pod("web-2", "web")],
        [report],
    )

    bare, web = rows_of(select("svc"), cluster)

    assert (web.figures.connections, web.figures.read_rate) == (2, 10.0)
    assert bare.figures.connections is None


def test_a_finished_pod_has_no_row() -> None:
    assert [row.name for row in rows("po")] == ["web-1", "web-2"]


def test_the_work_of_a_pod_that_is_gone_still_counts_for_its_deployment() -> None:
    cluster = shop()
    left = replace(cluster, pods=[p for p in cluster.pods if p["metadata"]["name"] != "web-2"])

    (web,) = rows_of(select("deploy"), left)

    assert web.meshed == (1, 1)
    assert web.figures.requests == pytest.approx(1200, abs=2)


def test_two_destinations_that_know_one_proxy_in_turn_are_added_and_overlaps_are_not() -> None:
    def part(started: float, ended: float, age: float) -> WindowReport:
        return WindowReport("shop", "web-1", started, ended, age, whole=False, incarnation="a")

    early, late, stale = part(0, 30, 30), part(31, 58, 2), part(0, 35, 25)

    assert newest_reports([[early], [late]]) == [late, early]
    assert newest_reports([[late], [stale]]) == [late]


def test_a_replica_set_has_a_row_of_its_own_unless_a_deployment_owns_it() -> None:
    owned, bare, alone = named("web-6f"), named("alone"), pod("alone-1", "")
    owned["metadata"]["ownerReferences"] = [
        {"kind": "Deployment", "name": "web", "controller": True}
    ]
    alone["metadata"]["ownerReferences"][0]["name"] = "alone"
    cluster = Cluster({"replicaset": [owned, bare]}, [pod("web-1", "web"), alone], [])

    (row,) = rows_of(select("rs"), cluster, unmeshed=True)

    assert (row.kind, row.name, row.meshed) == ("replicaset", "alone", (1, 1))


@pytest.mark.parametrize("form", ["table", "wide", "namespaces"])
def test_tables_read_as_linkerds(form: str) -> None:
    everything = [row for kind in KINDS for row in rows_of(Selection(kind), shop(), unmeshed=False)]

    text = render_table(everything, namespaces=form == "namespaces", wide=form == "wide")

    check_golden(f"stat_{form}.txt", text)


def test_one_type_prints_bare_names() -> None:
    check_golden("stat_deploy.txt", render_table(rows("deploy")))


def test_json_is_linkerds_with_exact_counts_beside() -> None:
    answer = json.loads(render_json(rows("deploy") + rows("ts")))

    web, leaf = answer[0], answer[1]
    assert web["meshed"] == "2/2"
    assert web["failures"] == pytest.approx(150, abs=2)
    assert web["latency_ms_p50"] == pytest.approx(4, rel=0.05)
    assert (leaf["apex"], leaf["leaf"], leaf["weight"]) == ("catalogue", "catalogue-v1", "900m")
    assert render_json([]) == "[]\n"


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ([], [("deployment", ())]),
        (["po"], [("pod", ())]),
        (["deploy/web"], [("deployment", ("web",))]),
        (["deploy", "web", "api"], [("deployment", ("web", "api"))]),
        (
            ["deploy/web", "svc/web", "deploy/api"],
            [("deployment", ("web", "api")), ("service", ("web",))],
        ),
        (["deploy,ts"], [("deployment", ()), ("trafficsplit", ())]),
    ],
)
def test_resources_are_named_as_kubectl_does(
    words: list[str], meaning: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert [(s.kind.name, s.names) for s in parse_resources(words)] == meaning


@pytest.mark.parametrize("words", [["frob"], ["deploy/web", "api"], ["deploy/"], ["all", "po"]])
def test_what_is_no_resource_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse_resources(words)
