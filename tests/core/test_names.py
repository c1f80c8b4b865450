"""Identities and authorities, there and back."""

from __future__ import annotations

import pytest

from mesh.core.names import (
    WorkloadId,
    join_address,
    parse_identity_dns,
    parse_identity_uri,
    service_authority,
    split_authority,
)


@pytest.mark.parametrize("account", ["default", "build.robot"])
def test_an_identity_survives_both_forms(account: str) -> None:
    workload = WorkloadId("cluster.local", "shop", account)

    assert parse_identity_dns(workload.dns("mesh")) == workload
    assert parse_identity_uri(workload.uri()) == workload


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web.shop",
        ".serviceaccount.identity.mesh.cluster.local",
        "a.b.serviceaccount.identity.mesh",
    ],
)
def test_other_names_are_no_identity(text: str) -> None:
    assert parse_identity_dns(text) is None
    assert parse_identity_uri(text) is None


@pytest.mark.parametrize(
    ("authority", "parts"),
    [
        ("web:80", ("web", 80)),
        ("web", ("web", None)),
        ("[fd00::1]:8080", ("fd00::1", 8080)),
        ("[fd00::1]", ("fd00::1", None)),
        ("fd00::1", ("fd00::1", None)),
        ("web:http", ("web", None)),
        ("web:", ("web", None)),
    ],
)
def test_an_authority_is_host_and_port(authority: str, parts: tuple[str, int | None]) -> None:
    assert split_authority(authority) == parts


def test_addresses_print_with_brackets_where_needed() -> None:
    assert join_address("10.0.0.1", 80) == "10.0.0.1:80"
    assert join_address("fd00::1", 80) == "[fd00::1]:80"
    assert service_authority("web", "shop", 80) == "web.shop.svc.cluster.local:80"
