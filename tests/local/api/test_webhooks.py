"""Admission webhooks: which are asked, what they get, and what their answers do."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.local.api.resources import Registry, Resource
from mesh.local.api.store import Store
from mesh.local.api.users import SYSTEM
from mesh.local.api.webhooks import (
    MUTATING,
    VALIDATING,
    CallError,
    Request,
    Webhooks,
    applies,
)

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


def row(key: str) -> Resource:
    found = Registry().find(key)
    assert found is not None
    return found


def request(key: str = "pods", **more: Any) -> Request:
    return Request("CREATE", row(key), "v1", "shop", "web", SYSTEM, **more)


def hook(name: str = "a.b.c", **more: Any) -> dict[str, Any]:
    return {"name": name, "rules": [RULE], "sideEffects": "None", **more}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({}, True),
        ({"apiGroups": ["*"], "resources": ["*"]}, True),
        ({"resources": ["*/*"]}, True),
        ({"resources": ["pods/*"]}, True),
        ({"resources": ["pods/status"]}, False),
        ({"apiGroups": ["apps"]}, False),
        ({"apiVersions": ["v2"]}, False),
        ({"operations": ["UPDATE"]}, False),
        ({"operations": ["*"]}, True),
        ({"scope": "Cluster"}, False),
        ({"scope": "Namespaced"}, True),
    ],
)
def test_a_rule_chooses(rule: dict[str, Any], wanted: bool) -> None:
    assert applies({"rules": [{**RULE, **rule}]}, request(), {}, {}) is wanted


def test_subresources_are_asked_for_by_name() -> None:
    asked = request(subresource="status")

    def wants(*resources: str) -> bool:
        return applies({"rules": [{**RULE, "resources": list(resources)}]}, asked, {}, {})

    assert [wants("pods"), wants("*"), wants("pods/status"), wants("*/status")] == [
        False,
        False,
        True,
        True,
    ]


def test_selectors_choose_by_the_labels_of_namespace_and_object() -> None:
    webhook = hook(
        namespaceSelector={"matchLabels": {"mesh": "on"}},
        objectSelector={"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]},
    )

    assert applies(webhook, request(), {"metadata": {}}, {"mesh": "on"})
    assert not applies(webhook, request(), {"metadata": {}}, {})
    assert not applies(webhook, request(), {"metadata": {"labels": {"skip": ""}}}, {"mesh": "on"})


Answer = Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]]


class Cluster:
    """A store with webhook configurations, and a caller that answers as the test says."""

    def __init__(self, answer: Answer, *mutating: Any, validating: Any = ()) -> None:
        self.store = Store()
        self.store.create("namespaces", {"metadata": {"name": "shop"}})
        for key, webhooks in ((MUTATING, mutating), (VALIDATING, validating)):
            self.store.create(key, {"metadata": {"name": "c"}, "webhooks": list(webhooks)})
        self._answer = answer
        self.asked: list[str] = []
        self.reviews: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    async def call(
        self, webhook: Mapping[str, Any], review: dict[str, Any], seconds: float
    ) -> dict[str, Any]:
        self.asked.append(webhook["name"])
        self.reviews.append(review["request"])
        response = self._answer(webhook, review["request"])
        return {"response": {"uid": review["request"]["uid"], **response}}

    def mutate(self, obj: dict[str, Any], **more: Any) -> dict[str, Any]:
        hooks = Webhooks(self.store, self.call)
        return asyncio.run(
            hooks.mutate(request(**more), obj, self.warnings.append, lambda changed: None)
        )

    def validate(self, obj: dict[str, Any]) -> None:
        hooks = Webhooks(self.store, self.call)
        asyncio.run(hooks.validate(request(), obj, self.warnings.append))


def patched(*operations: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text, **more}


def label(name: str) -> dict[str, Any]:
    return {"op": "add", "path": f"/metadata/labels/{name}", "value": "1"}


def allowed(_: Mapping[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def web() -> dict[str, Any]:
    return {"metadata": {"name": "web", "labels": {}}}


def test_the_review_tells_who_does_what() -> None:
    cluster = Cluster(allowed, hook())

    cluster.mutate(web(), dry_run=True)

    (review,) = cluster.reviews
    assert review["operation"] == "CREATE"
    assert review["resource"] == {"group": "", "version": "v1", "resource": "pods"}
    assert review["kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert (review["namespace"], review["name"], review["dryRun"]) == ("shop", "web", True)
    assert review["object"] == web()
    assert review["userInfo"]["username"] == "system:apiserver"


def test_patches_add_up_in_order() -> None:
    def answer(webhook: Mapping[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        count = len(asked["object"]["metadata"]["labels"])
        return patched(label(f"{webhook['name'][0]}{count}"), warnings=["careful"])

    cluster = Cluster(answer, hook("a.b.c"), hook("b.b.c"))

    assert cluster.mutate(web())["metadata"]["labels"] == {"a0": "1", "b1": "1"}
    assert cluster.warnings == ["careful", "careful"]


def test_a_webhook_is_asked_again_when_a_later_one_changed_the_object() -> None:
    def answer(webhook: Mapping[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        return patched(label(webhook["name"][0]))

    again = hook("a.b.c", reinvocationPolicy="IfNeeded")

    cluster = Cluster(answer, again, hook("b.b.c"))
    cluster.mutate(web())
    alone = Cluster(answer, again)
    alone.mutate(web())

    assert cluster.asked == ["a.b.c", "b.b.c", "a.b.c"]
    assert alone.asked == ["a.b.c"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"allowed": False}, 'admission webhook "a.b.c" denied the request without explanation'),
        (
            {"allowed": False, "status": {"message": "no"}},
            'admission webhook "a.b.c" denied the request: no',
        ),
    ],
)
def test_a_refusal_is_passed_on(answer: dict[str, Any], words: str) -> None:
    cluster = Cluster(lambda *_: answer, hook(), validating=[hook()])

    with pytest.raises(ApiError) as mutating:
        cluster.mutate(web())
    with pytest.raises(ApiError) as validating:
        cluster.validate(web())

    assert mutating.value.message == validating.value.message == words
    assert mutating.value.code == 403


@pytest.mark.parametrize(
    "answer",
    [
        {"uid": "another"},
        {"allowed": True, "patchType": "Odd", "patch": "W10="},
        {"allowed": True, "patchType": "JSONPatch", "patch": "%"},
        patched({"op": "remove", "path": "/missing"}),
    ],
)
def test_a_broken_answer_counts_as_a_failed_call(answer: dict[str, Any]) -> None:
    ignoring = Cluster(lambda *_: answer, hook(failurePolicy="Ignore"))
    failing = Cluster(lambda *_: answer, hook(failurePolicy="Fail"))

    assert ignoring.mutate(web()) == web()
    with pytest.raises(ApiError, match=r'failed calling webhook "a\.b\.c": ') as refused:
        failing.mutate(web())
    assert refused.value.code == 500


def test_a_webhook_that_cannot_be_reached_follows_its_failure_policy() -> None:
    def unreachable(*_: Any) -> dict[str, Any]:
        raise CallError("connection refused")

    assert Cluster(unreachable, hook(failurePolicy="Ignore")).mutate(web()) == web()
    with pytest.raises(ApiError, match="connection refused"):
        Cluster(unreachable, hook(failurePolicy="Fail")).mutate(web())


def test_a_dry_run_never_reaches_a_webhook_with_side_effects() -> None:
    cluster = Cluster(allowed, hook(sideEffects="Some"))

    with pytest.raises(ApiError, match="does not support dry run"):
        cluster.mutate(web(), dry_run=True)
    assert cluster.asked == []


def test_webhook_configurations_are_never_sent_to_webhooks() -> None:
    everything = hook(rules=[{k: ["*"] for k in RULE}])
    cluster = Cluster(allowed, everything)

    cluster.mutate({"metadata": {"name": "x"}}, key=MUTATING)

    assert cluster.asked == []
