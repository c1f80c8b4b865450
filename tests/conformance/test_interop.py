"""gRPC's interop suite: grpc-go's client and server with two proxies and mutual TLS between."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from mesh.core.model import Protocol
from tests.cluster.build import built
from tests.cluster.cache import BuildError
from tests.conformance.build import CLIENT, SERVER
from tests.conformance.pair import Ports, running
from tests.proxy.world import free_port

# All that need neither credentials of a cloud nor several servers; they pass without proxies.
CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "orca_per_rpc",
    "orca_oob",
    "rpc_soak",
    "channel_soak",
)

# What the two orca cases ask for: a balancer that keeps the load reports.
ORCA = '{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}'

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def client() -> str:
    try:
        return str(built(CLIENT))
    except BuildError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module", params=[Protocol.GRPC, Protocol.DETECT], ids=str)
def ports(request: pytest.FixtureRequest) -> Iterator[Ports]:
    port = free_port()
    try:
        server = built(SERVER)
    except BuildError as error:
        pytest.fail(str(error))
    process = subprocess.Popen([str(server), f"-port={port}"], stderr=subprocess.DEVNULL)
    try:
        with running(port, request.param) as made:
            yield made
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("side", ["outbound", "inbound"])
@pytest.mark.parametrize("case", CASES)
def test_a_case_of_the_interop_suite_passes(
    case: str, side: str, client: str, ports: Ports
) -> None:
    port = getattr(ports, side)
    command = [client, "-server_host=127.0.0.1", f"-server_port={port}", f"-test_case={case}"]
    command += ["-soak_iterations=50", "-soak_overall_timeout_seconds=60"]
    if case.startswith("orca"):
        command.append(f"-service_config_json={ORCA}")

    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)

    assert done.returncode == 0, done.stderr[-2000:]
