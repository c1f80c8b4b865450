"""The shop's manifests: what the examples hold is what the demo applies."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mesh.inject.config import DEFAULT_IMAGE
from mesh.local.shop import manifests

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


@pytest.mark.parametrize(("name", "text"), manifests.examples(DEFAULT_IMAGE).items())
def test_the_examples_are_what_the_demo_applies(name: str, text: str) -> None:
    assert (EXAMPLES / name).read_text() == text


def test_the_shop_runs_in_at_most_eight_pods() -> None:
    pods = [o for o in manifests.shop(DEFAULT_IMAGE) if o["kind"] == "Deployment"]

    assert sum(o["spec"]["replicas"] for o in pods) <= 8


def test_every_service_selects_a_deployment() -> None:
    objects = list(yaml.safe_load_all(manifests.examples(DEFAULT_IMAGE)["shop.yaml"]))
    templates = [
        o["spec"]["template"]["metadata"]["labels"] for o in objects if o["kind"] == "Deployment"
    ]

    for service in (o for o in objects if o["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        assert any(selector <= labels.items() for labels in templates)
