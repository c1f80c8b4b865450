"""Pods that were made while no webhook answered are found, told of and counted."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mesh.core import labels
from mesh.inject.config import InjectConfig
from mesh.inject.events import MISSED, News
from mesh.inject.patch import Cluster, Namespace
from mesh.inject.reconcile import AGAIN, SETTLED, Reconciler, is_missed, shrink_pod

SHOP = Namespace("shop", annotations={labels.A_INJECT: "enabled"})
Object = dict[str, Any]


def pod(name: str = "web-1", namespace: str = "shop", **spec: Any) -> Object:
    meta = {"name": name, "namespace": namespace, "uid": name, "annotations": {}}
    body = {"containers": [{"name": "app", "image": "app:1", "env": []}], **spec}
    return {"metadata": meta, "spec": body, "status": {"phase": "Running"}}


class FakeView:
    config: InjectConfig | None = InjectConfig()
    cluster = Cluster()

    def known_namespace(self, name: str) -> Namespace | None:
        return SHOP if name == "shop" else None


class Looks:
    """A reconciler with a clock, and what it told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[News] = []
        self.registry = CollectorRegistry()
        client: Any = None
        self.reconciler = Reconciler(
            client, FakeView(), self.told.append, self.registry, clock=lambda: self.now
        )

    @property
    def count(self) -> float | None:
        return self.registry.get_sample_value("mesh_inject_missed_pods")


def test_a_pod_without_a_proxy_is_told_of_once_and_counted_while_it_stays() -> None:
    looks = Looks()
    looks.reconciler.take([(pod(), False)])
    looks.reconciler.look()
    assert looks.told == []  # it may have been shown before its label was

    looks.now = SETTLED
    looks.reconciler.look()
    looks.reconciler.take([(pod(), False)])  # its status changed
    looks.reconciler.look()

    (news,) = looks.told
    assert (news.reason, news.namespace) == (MISSED, "shop")
    assert "kubectl -n shop delete pod web-1" in news.message
    assert looks.count == 1

    looks.now += AGAIN
    looks.reconciler.look()
    assert len(looks.told) == 2

    looks.reconciler.take([(pod(), True)])
    looks.reconciler.look()
    assert looks.count == 0


def test_the_event_names_the_rollout_that_helps() -> None:
    looks = Looks()
    owner = {"kind": "ReplicaSet", "name": "web-5d4f", "controller": True}
    made = pod()
    made["metadata"] |= {"ownerReferences": [owner], "labels": {"pod-template-hash": "5d4f"}}
    looks.reconciler.take([(shrink_pod(made), False)])
    looks.now = SETTLED

    looks.reconciler.look()

    assert "kubectl -n shop rollout restart deployment/web" in looks.told[0].message


@pytest.mark.parametrize(
    ("found", "namespace"),
    [
        (pod(), Namespace("shop")),
        (pod(), None),
        (pod(hostNetwork=True), SHOP),
        (pod(containers=[{"name": labels.PROXY_CONTAINER}]), SHOP),
        (pod() | {"status": {"phase": "Succeeded"}}, SHOP),
        (pod(namespace="mesh"), Namespace("mesh", annotations=SHOP.annotations)),
        (pod(), Namespace("shop", {labels.A_INJECT: "enabled"}, {labels.A_INJECT: "disabled"})),
    ],
)
def test_nobody_is_missed_who_should_have_no_proxy(
    found: Object, namespace: Namespace | None
) -> None:
    assert not is_missed(shrink_pod(found), namespace, InjectConfig(), Cluster())


def test_what_is_kept_of_a_pod_is_enough_and_no_more() -> None:
    kept = shrink_pod(pod(volumes=[{"name": "data", "emptyDir": {}}]))

    assert is_missed(kept, SHOP, InjectConfig(), Cluster())
    assert kept["spec"]["containers"] == [{"name": "app", "image": "app:1"}]
    assert kept["spec"]["volumes"] == [{"name": "data"}]
