"""Hostile and odd pods: the patch always applies, changes nothing twice, widens nothing."""

from __future__ import annotations

import copy
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import labels
from mesh.inject.jsonpatch import apply_patch
from mesh.inject.patch import Cluster, Injection, Skip, all_containers
from mesh.inject.restore import plan_removal
from tests.inject.pods import Object, make_pod, plan

OURS = (labels.PROXY_CONTAINER, labels.INIT_CONTAINER)
NAMES = st.sampled_from(["web", "db", "http", "mesh-proxy", "istio-proxy", "é/~"])
PORTS = st.one_of(st.integers(-1, 70_000), st.sampled_from(["http", "80", "x", ""]))
TEXT = st.one_of(st.text(max_size=12), st.sampled_from(["enabled", "80", "a/b~c", "1-0", "1e3"]))
KEYS = st.one_of(st.sampled_from(sorted(labels.ANNOTATION_BY_NAME)), st.text(max_size=8))
PROBE = st.one_of(
    st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": PORTS})}),
    st.fixed_dictionaries({"httpGet": st.fixed_dictionaries({"port": PORTS, "path": TEXT})}),
    st.fixed_dictionaries({"exec": st.just({"command": ["true"]})}),
)
CONTAINER = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "image": TEXT,
        "ports": st.lists(
            st.fixed_dictionaries(
                {"containerPort": st.integers(1, 65535)}, optional={"name": NAMES}
            ),
            max_size=3,
        ),
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
        "securityContext": st.fixed_dictionaries(
            {}, optional={"runAsUser": st.integers(0, 3000), "privileged": st.booleans()}
        ),
    },
)
VOLUME = st.fixed_dictionaries({"name": NAMES, "emptyDir": st.just({})})
SPEC = st.fixed_dictionaries(
    {"containers": st.lists(CONTAINER, max_size=3)},
    optional={
        "initContainers": st.one_of(st.none(), st.lists(CONTAINER, max_size=2)),
        "volumes": st.one_of(st.none(), st.lists(VOLUME, max_size=2)),
        "hostNetwork": st.booleans(),
        "terminationGracePeriodSeconds": st.integers(0, 10_000),
        "securityContext": st.just({"fsGroup": 5}),
    },
)
META = st.fixed_dictionaries(
    {},
    optional={
        "annotations": st.one_of(st.none(), st.dictionaries(KEYS, TEXT, max_size=4)),
        "labels": st.one_of(st.none(), st.dictionaries(KEYS, TEXT, max_size=2)),
    },
)


def have_names_of_their_own(pod: Object) -> bool:
    """As the API server demands of containers."""
    names = [container["name"] for container in all_containers(pod)]
    return len(names) == len(set(names))


PODS = st.fixed_dictionaries({"metadata": META, "spec": SPEC}).filter(have_names_of_their_own)
CLUSTERS = st.builds(Cluster, native=st.booleans())


def switched_on(pod: Object) -> Object:
    pod = copy.deepcopy(pod)
    pod["metadata"]["annotations"] = {
        **(pod["metadata"].get("annotations") or {}),
        "mesh/inject": "enabled",
    }
    return pod


def without_probes(container: Object) -> Object:
    return {k: v for k, v in container.items() if not k.endswith("Probe")}


@settings(max_examples=100, deadline=None)
@given(PODS, CLUSTERS)
def test_a_patch_applies_and_a_second_one_is_empty(pod: Object, cluster: Cluster) -> None:
    pod = switched_on(pod)
    before = copy.deepcopy(pod)

    outcome = plan(pod, cluster=cluster)
    assert pod == before  # nothing is changed in place
    if isinstance(outcome, Injection):
        injected = apply_patch(pod, outcome.patch)
        again = plan(injected, cluster=cluster)

        assert isinstance(again, Injection)
        assert again.patch == ()


@settings(max_examples=100, deadline=None)
@given(PODS, CLUSTERS)
def test_the_application_keeps_all_but_its_tcp_probes(pod: Object, cluster: Cluster) -> None:
    pod = switched_on(pod)

    outcome = plan(pod, cluster=cluster)
    if isinstance(outcome, Injection) and outcome.is_new:
        injected = apply_patch(pod, outcome.patch)
        for kind in ("initContainers", "containers"):
            kept = [c for c in injected["spec"].get(kind) or [] if c["name"] not in OURS]
            assert list(map(without_probes, kept)) == list(
                map(without_probes, pod["spec"].get(kind) or [])
            )
        changed = {"initContainers", "containers", "volumes"}
        for key in (injected["spec"].keys() | pod["spec"].keys()) - changed:
            assert injected["spec"][key] == pod["spec"][key]


@settings(max_examples=100, deadline=None)
@given(PODS, CLUSTERS)
def test_no_privilege_comes_with_the_sidecar_but_the_two_of_init(
    pod: Object, cluster: Cluster
) -> None:
    outcome = plan(switched_on(pod), cluster=cluster)
    if isinstance(outcome, Injection) and outcome.is_new:
        ours = [
            c
            for c in all_containers(apply_patch(switched_on(pod), outcome.patch))
            if c["name"] in OURS
        ]
        assert len(ours) == 2
        for container in ours:
            security = container["securityContext"]
            added = security["capabilities"].get("add", [])
            is_init = container["name"] == labels.INIT_CONTAINER
            assert added == (["NET_ADMIN", "NET_RAW"] if is_init else [])
            assert security["capabilities"]["drop"] == ["ALL"]
            assert not security["allowPrivilegeEscalation"]
            assert not security["privileged"]


def settled(value: Any) -> Any:
    """Kubernetes cannot tell an empty map or list, or null, from nothing."""
    if isinstance(value, dict):
        kept = {k: settled(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in ({}, [], None)}
    return [settled(v) for v in value] if isinstance(value, list) else value


@settings(max_examples=100, deadline=None)
@given(PODS, CLUSTERS)
def test_removal_gives_back_what_injection_was_given(pod: Object, cluster: Cluster) -> None:
    pod = switched_on(pod)
    outcome = plan(pod, cluster=cluster)
    if isinstance(outcome, Injection) and outcome.is_new:
        injected = apply_patch(pod, outcome.patch)
        plain = apply_patch(pod, plan_removal(pod))  # without its switches

        back = apply_patch(injected, plan_removal(injected))

        assert settled(back) == settled(plain)


def test_ten_thousand_ports_and_containers_are_planned_in_time() -> None:
    many = [
        {
            "name": f"c{i}",
            "ports": [{"name": f"p{i}-{j}", "containerPort": 5000 + j} for j in range(100)],
            "readinessProbe": {"tcpSocket": {"port": f"p{i}-1"}},
        }
        for i in range(100)
    ]
    pod = make_pod()
    pod["spec"]["containers"] = many

    started = time.process_time()
    outcome = plan(pod)

    assert not isinstance(outcome, Skip)
    assert time.process_time() - started < 0.25
