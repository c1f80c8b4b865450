"""A ServiceProfile from traffic that proxies have seen."""

from __future__ import annotations

import pytest
import yaml

from tests.e2e.stage import Stage, eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def test_what_proxies_have_seen_becomes_a_profile_that_applies(stage: Stage) -> None:
    before = stage.load("/stats")["ok"]
    eventually(lambda: stage.load("/stats")["ok"] > before + 10)

    text = stage.mesh("profile", "--observed", "--window", "10m", "-n", "shop", "catalogue")

    (found,) = yaml.safe_load_all(text)
    names = [route["name"] for route in found["spec"]["routes"]]
    assert any(name.startswith("GET /") for name in names), names
    assert not any("healthz" in name or "ready" in name for name in names), names
    try:
        stage.apply(text)
        eventually(lambda: names[0] in stage.mesh("routes", "svc/catalogue", "-n", "shop"))
    finally:
        stage.kubectl("delete", "serviceprofile", found["metadata"]["name"], "-n", "shop")
