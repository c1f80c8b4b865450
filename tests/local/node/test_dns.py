"""The name server: names, record types and response codes, byte for byte where it matters."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.local.api.store import Store
from mesh.local.node.dns import Names, NameServer
from mesh.local.node.dnspacket import (
    TYPE_A,
    TYPE_AAAA,
    TYPE_CNAME,
    TYPE_PTR,
    TYPE_SRV,
    Code,
    Question,
    encode_name,
)

SERVICES: list[dict[str, Any]] = [
    {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    },
    {
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]},
    },
    {
        "metadata": {"name": "alias", "namespace": "shop"},
        "spec": {"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"},
    },
]
SLICES: list[dict[str, Any]] = [
    {
        "metadata": {
            "name": "db-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "db"},
        },
        "endpoints": [
            {"addresses": ["10.244.1.1"], "hostname": "db-0", "conditions": {"ready": True}},
            {"addresses": ["fd00::5"], "conditions": {"ready": True}},
            {"addresses": ["10.244.1.9"], "conditions": {"ready": False}},
        ],
        "ports": [{"name": "sql", "port": 15432, "protocol": "TCP"}],
    }
]
NAMES = Names.of("cluster.local", SERVICES, SLICES)


def addresses(name: str, kind: int = TYPE_A) -> list[str]:
    family = socket.AF_INET6 if kind == TYPE_AAAA else socket.AF_INET
    found = NAMES.answer(Question(name, kind))
    return [socket.inet_ntop(family, record.data) for record in found.records]


def code(name: str, kind: int = TYPE_A) -> Code:
    return NAMES.answer(Question(name, kind)).code


def test_a_service_has_its_cluster_address() -> None:
    assert addresses("web.shop.svc.cluster.local") == ["10.96.0.7"]


def test_the_other_family_of_an_existing_name_is_empty_and_no_error() -> None:
    found = NAMES.answer(Question("web.shop.svc.cluster.local", TYPE_AAAA))

    assert (found.code, found.records) == (Code.NOERROR, ())


@pytest.mark.parametrize(
    "name", ["shop.svc.cluster.local", "svc.cluster.local", "_tcp.web.shop.svc.cluster.local"]
)
def test_names_between_existing_ones_exist(name: str) -> None:
    assert code(name) == Code.NOERROR


@pytest.mark.parametrize(
    "name", ["none.shop.svc.cluster.local", "example.com", "web.shop.svc.cluster.local.example"]
)
def test_everything_else_does_not_exist(name: str) -> None:
    assert code(name) == Code.NXDOMAIN


def test_a_headless_service_has_its_ready_endpoints_and_their_names() -> None:
    assert addresses("db.shop.svc.cluster.local") == ["10.244.1.1"]
    assert addresses("db.shop.svc.cluster.local", TYPE_AAAA) == ["fd00::5"]
    assert addresses("db-0.db.shop.svc.cluster.local") == ["10.244.1.1"]


def test_a_headless_service_that_publishes_early_has_all() -> None:
    early = {**SERVICES[1], "spec": {**SERVICES[1]["spec"], "publishNotReadyAddresses": True}}

    names = Names.of("cluster.local", [early], SLICES)

    assert len(names.answer(Question("db.shop.svc.cluster.local", TYPE_A)).records) == 2


def test_service_records_name_port_and_target_with_its_address() -> None:
    found = NAMES.answer(Question("_sql._tcp.db.shop.svc.cluster.local", TYPE_SRV))

    targets = {record.data[6:] for record in found.records}
    assert {struct.unpack("!HHH", record.data[:6])[2] for record in found.records} == {15432}
    assert encode_name("db-0.db.shop.svc.cluster.local") in targets
    assert {record.type for record in found.additional} == {TYPE_A, TYPE_AAAA}


def test_addresses_lead_back_to_names() -> None:
    found = NAMES.answer(Question("7.0.96.10.in-addr.arpa", TYPE_PTR))

    assert found.records[0].data == encode_name("web.shop.svc.cluster.local")


def test_an_external_name_is_followed_inside_the_cluster() -> None:
    found = NAMES.answer(Question("alias.shop.svc.cluster.local", TYPE_A))

    assert [record.type for record in found.records] == [TYPE_CNAME, TYPE_A]


def test_a_pod_name_is_its_address() -> None:
    assert addresses("10-244-1-1.shop.pod.cluster.local") == ["10.244.1.1"]
    assert code("nonsense.shop.pod.cluster.local") == Code.NXDOMAIN


def query(name: str, kind: int = TYPE_A, ident: int = 7) -> bytes:
    head = struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0)
    return head + encode_name(name) + struct.pack("!HH", kind, 1)


@pytest.fixture
def server() -> NameServer:
    store = Store()
    for service in SERVICES:
        store.create("services", service)
    return NameServer(store, "cluster.local")


def test_an_answer_repeats_the_question_and_is_authoritative(server: NameServer) -> None:
    answer = server.reply(query("WEB.shop.svc.Cluster.local"), True)

    assert answer is not None
    ident, flags, questions, records, _, _ = struct.unpack_from("!6H", answer)
    assert (ident, questions, records) == (7, 1, 1)
    assert flags & 0x8400 == 0x8400
    assert b"\x03WEB\x04shop" in answer
    assert answer.endswith(socket.inet_aton("10.96.0.7"))


def test_too_large_for_udp_is_said_and_tcp_gives_all() -> None:
    store = Store()
    store.create("services", SERVICES[1])
    many = [
        {"addresses": [f"10.244.1.{number}"], "conditions": {"ready": True}}
        for number in range(1, 200)
    ]
    store.create("endpointslices.discovery.k8s.io", {**SLICES[0], "endpoints": many})
    server = NameServer(store, "cluster.local")

    udp = server.reply(query("db.shop.svc.cluster.local"), True)
    tcp = server.reply(query("db.shop.svc.cluster.local"), False)

    assert udp is not None
    assert tcp is not None
    assert struct.unpack_from("!6H", udp)[1] & 0x0200
    assert len(udp) <= 512
    assert struct.unpack_from("!6H", tcp)[3] == 199


def test_garbage_gets_an_error_or_silence(server: NameServer) -> None:
    broken = query("web.shop.svc.cluster.local")[:-6]

    answer = server.reply(broken, True)

    assert answer is not None
    assert struct.unpack_from("!6H", answer)[:2] == (7, 0x8001)
    assert server.reply(b"short", True) is None


@given(st.binary(max_size=600))
def test_no_packet_breaks_the_server(packet: bytes) -> None:
    answer = NameServer(Store(), "cluster.local").reply(packet, True)

    assert answer is None or len(answer) <= 1232


@given(st.data())
def test_no_mutated_query_breaks_the_server(data: st.DataObject) -> None:
    packet = bytearray(query("web.shop.svc.cluster.local"))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))

    NameServer(Store(), "cluster.local").reply(bytes(packet), True)
