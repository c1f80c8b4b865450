"""The admin port: who may ask what, and what the metrics say."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mesh.core.model import Condition, Profile, RouteClass, Source, Target
from proxy.exposition import write_metrics
from proxy.telemetry import Telemetry
from tests.proxy.apps import hello
from tests.proxy.fakes import CLUSTER_IP
from tests.proxy.world import World, free_port, on_loop, parse_response, request

GET_CLOSE = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


async def ask(port: int, line: bytes, host: str = "127.0.0.1") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    status, _, body = parse_response(await reader.read())
    writer.close()
    return status, body


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples, as Prometheus itself would read them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(text: str, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (n, have), value in samples(text).items() if n == name and wanted <= have)


@on_loop
async def test_live_and_ready_are_for_everybody(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = world.client.admin

        assert await ask(port, b"GET /live") == (200, b"live\n")
        assert await ask(port, b"GET /ready") == (200, b"ready\n")
        world.client.discovery.ready = False
        status, said = await ask(port, b"GET /ready")
        assert (status, said.startswith(b"waiting for the first view from ")) == (503, True)
        world.client.discovery.ready = True
        world.client.credentials.not_after = 0.0
        world.client.credentials.last_reason = "connect-failed"
        status, said = await ask(port, b"GET /ready")
        assert (status, b"a certificate from 127.0.0.1:1 (connect-failed)" in said) == (503, True)
        assert (await ask(port, b"GET /nothing"))[0] == 404
        assert (await ask(port, b"POST /ready"))[0] == 405
        assert (await ask(port, b"GET / HTTP/9.9\r\n"))[0] in (400, 505)


@on_loop
async def test_a_tcp_probe_asks_the_application(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = await world.serve(hello)

        assert await ask(world.server.admin, b"GET /probe/tcp/%d" % port) == (200, b"open\n")
        status, body = await ask(world.server.admin, b"GET /probe/tcp/%d" % free_port())
        assert (status, body) == (503, b"connect-failed\n")
        for bad in (b"x", b"0", b"70000", b""):
            assert (await ask(world.server.admin, b"GET /probe/tcp/" + bad))[0] == 400


@on_loop
async def test_what_changes_or_tells_more_is_for_loopback_only(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        port = world.client.admin
        world.route()

        status, body = await ask(port, b"GET /view")
        assert status == 200
        assert b'"10.96.0.10:80"' in body
        assert (await ask(port, b"PUT /log-level?debug"))[0] == 200
        assert (await ask(port, b"PUT /log-level?loud"))[0] == 400
        assert (await ask(port, b"PUT /log-level?info"))[0] == 200
        world.client.server.admin.is_loopback = lambda host: False
        assert (await ask(port, b"GET /view"))[0] == 403
        assert (await ask(port, b"PUT /log-level?debug"))[0] == 403
        assert (await ask(port, b"GET /live"))[0] == 200


@on_loop
async def test_metrics_count_each_request_on_both_sides(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        for _ in range(3):
            await request(world.client, GET_CLOSE)

        _, outbound = await ask(world.client.admin, b"GET /metrics")
        _, inbound = await ask(world.server.admin, b"GET /metrics")

        identity = world.client.credentials.identity
        out, come = outbound.decode(), inbound.decode()
        assert total(out, "request_total", direction="outbound", dst_pod="web-1", tls="true") == 3
        assert (
            total(
                out,
                "response_total",
                authority="web.shop.svc.cluster.local:80",
                server_id=world.server.credentials.identity,
                dst_deployment="web",
                dst_namespace="shop",
                dst_service="web",
                classification="success",
                status_code="200",
            )
            == 3
        )
        assert total(come, "request_total", direction="inbound", client_id=identity) == 3
        assert total(come, "response_latency_ms_count", direction="inbound") == 3
        assert total(out, "route_request_total", dst="web.shop.svc.cluster.local:80") == 3
        assert total(out, "tcp_open_total", peer="src") == 3
        assert total(come, "tcp_open_connections", peer="src", tls="true") == 1
        assert total(come, "tcp_read_bytes_total", peer="src") > 100


@on_loop
async def test_reports_count_exactly_what_happened(tmp_path: Path) -> None:
    async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = b"500 No" if b"/bad" in head else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        writer.close()

    async with World(tmp_path) as world:
        await world.serve(fails)
        world.route()
        for path, wanted in ((b"/", 200), (b"/bad", 500), (b"/", 200)):
            status, headers, _ = await request(world.client, GET_CLOSE.replace(b"/ ", path + b" "))
            assert status == wanted, headers

        server = world.client.server
        report = server.telemetry.report(5.0, world.client.discovery, world.client.credentials)

        (series,) = [s for s in report.series if s.key.kind == "http"]
        assert (series.counts.requests, series.counts.successes, series.counts.failures) == (
            3,
            2,
            1,
        )
        assert sum(series.counts.latency.values()) == 3
        assert series.key.apex == series.key.leaf == "web.shop.svc.cluster.local:80"
        assert (series.key.peer_pod, series.key.peer_workload) == ("web-1", "deployment/web")
        assert series.key.tls
        (tcp,) = [s for s in report.series if s.key.kind == "tcp"]
        assert tcp.counts.opened == 1
        assert report.at == 5.0
        assert report.bundle_hash


@on_loop
async def test_a_profile_names_and_classes_requests(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        target = world.client.discovery.view.targets[CLUSTER_IP]
        profile = Profile(
            Source("ServiceProfile", "shop", "web"),
            (
                RouteClass("GET /items/{id}", Condition(path_regex="/items/[^/]*", method="GET")),
                RouteClass("other", Condition(path_regex=".*")),
            ),
        )
        world.client.discovery.update(
            Target(CLUSTER_IP, authority=target.authority, rules=target.rules, profile=profile)
        )

        for path in (b"/items/7?x=/y", b"/items/8", b"/cart"):
            await request(world.client, GET_CLOSE.replace(b"/ ", path + b" ", 1))

        text = world.client.server.metrics()
        assert total(text, "route_request_total", rt_route="GET /items/{id}") == 2
        assert total(text, "route_request_total", rt_route="other") == 1
        report = world.client.server.telemetry.report(
            1.0, world.client.discovery, world.client.credentials
        )
        assert {s.key.route for s in report.series if s.key.kind == "http"} == {
            "GET /items/{id}",
            "other",
        }
        assert {s.key.profile for s in report.series if s.key.kind == "http"} == {"shop/web"}


@on_loop
async def test_text_of_clients_is_never_a_label(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.serve(hello)
        world.route()
        for i in range(5):
            raw = b"GET /secret%d HTTP/1.1\r\nHost: host%d\r\nConnection: close\r\n\r\n" % (i, i)
            await request(world.client, raw)

        for text in (world.client.server.metrics(), world.server.server.metrics()):
            assert "secret" not in text
            assert "host1" not in text


def test_labels_are_escaped() -> None:
    telemetry = Telemetry(0.0)
    telemetry.count("outbound_http_errors_total", error='a"b\\c\nd')

    text = write_metrics(telemetry, {})

    assert total(text, "outbound_http_errors_total", error='a"b\\c\nd') == 1
