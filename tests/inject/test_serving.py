"""The webhook's own certificate: made once, read by replicas, renewed in time, trusted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.inject.certs import (
    LIFE,
    RENEW_AT,
    first_certificate,
    make_serving,
    read_secret,
    service_names,
    write_secret,
)
from mesh.inject.serving import CONFIGURATIONS, ServingKeeper, trust_patch
from mesh.install.render import render
from mesh.install.values import Values
from tests.support.embedded_api import EmbeddedApi, embedded_api

NAMES = service_names("mesh", "cluster.local")
NOW = 1_800_000_000.0


def pair(context: ssl.SSLContext, ca: str, name: str) -> str:
    """Shake hands in memory with whoever trusts `ca`; the protocol version."""
    client_context = ssl.create_default_context(cadata=ca)
    server_in, server_out, client_in, client_out = (ssl.MemoryBIO() for _ in range(4))
    server = context.wrap_bio(server_in, server_out, server_side=True)
    client = client_context.wrap_bio(client_in, client_out, server_hostname=name)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            server_in.write(client_out.read())
            client_in.write(server_out.read())
    return str(client.version())


def test_the_certificate_names_the_service_and_lasts_a_year() -> None:
    serving = make_serving(NAMES, now=NOW)

    assert read_secret(write_secret(serving, "mesh"), NAMES) == serving
    assert serving.not_after == NOW + LIFE
    assert abs(serving.renew_at - (NOW + RENEW_AT * LIFE)) < 300
    assert "PRIVATE KEY" not in serving.ca + serving.certificate


def test_a_renewal_keeps_the_ca_before_it_and_no_older_one() -> None:
    first = make_serving(NAMES, now=NOW)
    second = make_serving(NAMES, now=NOW + 1, previous=first)
    third = make_serving(NAMES, now=NOW + 2, previous=second)

    assert second.ca.endswith(first.ca)
    assert third.ca.count("BEGIN CERTIFICATE") == 2
    assert first.ca not in third.ca
    assert first_certificate(third.ca) != first_certificate(second.ca)


def spoil(name: str, text: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data[name] = base64.b64encode(text.encode()).decode()

    return change


OTHER = make_serving(NAMES, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.clear(),
        lambda data: data.update({"tls.crt": "%"}),
        spoil("tls.key", "no key"),
        spoil("tls.key", OTHER.key),
        spoil("tls.crt", OTHER.certificate),
        spoil("ca.crt", OTHER.ca),
    ],
)
def test_a_secret_that_does_not_fit_together_is_refused(change: Callable[[Any], None]) -> None:
    secret = write_secret(make_serving(NAMES, now=NOW), "mesh")
    change(secret["data"])

    with pytest.raises(IdentityError):
        read_secret(secret, NAMES)


def test_a_certificate_for_another_service_is_refused() -> None:
    secret = write_secret(make_serving(["other.mesh.svc"], now=NOW), "mesh")

    with pytest.raises(IdentityError, match="expected a certificate for"):
        read_secret(secret, NAMES)


def test_only_a_ca_bundle_that_differs_is_written_and_only_to_the_webhook_it_was_read_from() -> (
    None
):
    hooks = [{"name": "a", "clientConfig": {"caBundle": "x"}}, {"name": "b", "clientConfig": {}}]

    assert trust_patch({"webhooks": hooks}, "x") == [
        {"op": "test", "path": "/webhooks/1/name", "value": "b"},
        {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "x"},
    ]


# -- against an API server, with the account's own rights -----------------------------------------


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


Keepers = Callable[[Clock], ServingKeeper]
Scenario = Callable[[EmbeddedApi, Keepers], Coroutine[Any, Any, None]]


def with_keepers(folder: Path, scenario: Scenario) -> None:
    async def run() -> None:
        async with embedded_api(folder) as cluster:
            await cluster.apply(*render(Values()))
            async with cluster.client_of(labels.INJECT, "mesh") as client:

                def make(clock: Clock) -> ServingKeeper:
                    return ServingKeeper(
                        client,
                        namespace="mesh",
                        cluster_domain="cluster.local",
                        key_dir=folder / "keys",
                        clock=clock,
                    )

                await scenario(cluster, make)

    asyncio.run(run())


def test_the_first_replica_writes_and_the_others_read(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi, make: Keepers) -> None:
        first, second = make(Clock(time.time())), make(Clock(time.time()))
        await asyncio.gather(first.refresh(), second.refresh())

        assert first.serving is not None
        assert first.serving == second.serving
        assert first.ready
        assert second.ready
        assert pair(second.context, first.serving.ca, NAMES[0]) == "TLSv1.3"
        assert not list((tmp_path / "keys").iterdir())  # the key stays in memory
        for kind, name in CONFIGURATIONS:
            hooks = (await cluster.admin.get(kind, name))["webhooks"]
            assert hooks[0]["clientConfig"]["caBundle"] == first.serving.ca_bundle

    with_keepers(tmp_path, scenario)


def test_at_seven_tenths_of_its_life_it_is_renewed_and_both_stay_trusted(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi, make: Keepers) -> None:
        clock = Clock(NOW)
        keeper, other = make(clock), make(clock)
        await keeper.refresh()
        old = keeper.serving
        assert old is not None

        clock.now = old.renew_at - 1
        await keeper.refresh()
        assert keeper.serving == old

        clock.now = old.renew_at
        await keeper.refresh()
        await other.refresh()
        assert keeper.serving is not None
        assert keeper.serving == other.serving != old
        assert keeper.serving.ca.endswith(old.ca)

    with_keepers(tmp_path, scenario)


def test_a_broken_secret_is_replaced(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi, make: Keepers) -> None:
        keeper = make(Clock(NOW))
        await keeper.refresh()
        secret = write_secret(OTHER, "mesh")
        secret["data"]["tls.key"] = "AAAA"
        await cluster.admin.replace("secrets", secret)

        await keeper.refresh()

        stored = await cluster.admin.get("secrets", labels.INJECT_SECRET, "mesh")
        assert read_secret(stored, NAMES) == keeper.serving

    with_keepers(tmp_path, scenario)


def test_without_its_configurations_the_webhook_is_not_ready(tmp_path: Path) -> None:
    async def scenario(cluster: EmbeddedApi, make: Keepers) -> None:
        keeper = make(Clock(NOW))
        kind, name = CONFIGURATIONS[0]
        await cluster.admin.delete(kind, name)

        await keeper.refresh()

        assert not keeper.ready

    with_keepers(tmp_path, scenario)
