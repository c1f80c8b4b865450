"""Every annotation of the table has its effect on the pod, in each of its spellings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.core import labels
from mesh.inject.annotations import resolve
from mesh.inject.config import InjectConfig
from mesh.inject.patch import Cluster, Injection, Namespace
from tests.inject.pods import (
    NATIVE,
    ORDINARY,
    Object,
    container_of,
    environment,
    inject,
    make_pod,
    plan,
)

Effect = Callable[[Object], object]


def proxy(pod: Object) -> Object:
    return container_of(pod, labels.PROXY_CONTAINER)


def init(pod: Object) -> Object:
    return container_of(pod, labels.INIT_CONTAINER)


def proxy_env(name: str) -> Effect:
    return lambda pod: environment(proxy(pod)).get(name)


def init_env(name: str) -> Effect:
    return lambda pod: environment(init(pod)).get(name)


def resource(section: str, kind: str) -> Effect:
    return lambda pod: proxy(pod)["resources"].get(section, {}).get(kind)


def has_wait(pod: Object) -> object:
    return "lifecycle" in proxy(pod)


def is_native(pod: Object) -> object:
    return proxy(pod) in pod["spec"]["initContainers"]


# name -> (what a person writes, where it shows, what is there, without the annotation, cluster)
EFFECTS: dict[str, tuple[str, Effect, object, object, Cluster]] = {
    "mesh/skip-inbound-ports": (
        "22, 8000-8010", init_env("MESH_INIT_SKIP_INBOUND_PORTS"), "22,8000-8010", None, NATIVE),
    "mesh/skip-outbound-ports": (
        "25", init_env("MESH_INIT_SKIP_OUTBOUND_PORTS"), "25", None, NATIVE),
    "mesh/skip-subnets": (
        "10.0.0.0/8, fd00::/8", init_env("MESH_INIT_SKIP_SUBNETS"), "10.0.0.0/8,fd00::/8", None,
        NATIVE),
    "mesh/opaque-ports": ("http,3306", proxy_env("MESH_PROXY_OPAQUE_PORTS"), "80,3306", None,
                          NATIVE),
    "mesh/require-tls": ("enabled", proxy_env("MESH_PROXY_REQUIRE_TLS"), "enabled", "disabled",
                         NATIVE),
    "mesh/proxy-cpu-request": ("20m", resource("requests", "cpu"), "20m", "10m", NATIVE),
    "mesh/proxy-cpu-limit": ("1", resource("limits", "cpu"), "1", None, NATIVE),
    "mesh/proxy-memory-request": ("64Mi", resource("requests", "memory"), "64Mi", "32Mi", NATIVE),
    "mesh/proxy-memory-limit": ("128Mi", resource("limits", "memory"), "128Mi", None, NATIVE),
    "mesh/proxy-image": (
        "r/mesh:2", lambda pod: {proxy(pod)["image"], init(pod)["image"]}, {"r/mesh:2"},
        {InjectConfig().image}, NATIVE),
    "mesh/image-pull-policy": (
        "Never", lambda pod: proxy(pod)["imagePullPolicy"], "Never", "IfNotPresent", NATIVE),
    "mesh/proxy-log-level": ("debug", proxy_env("MESH_PROXY_LOG_LEVEL"), "debug", "info", NATIVE),
    "mesh/proxy-log-format": ("json", proxy_env("MESH_PROXY_LOG_FORMAT"), "json", "text", NATIVE),
    "mesh/access-log": ("json", proxy_env("MESH_PROXY_ACCESS_LOG"), "json", "off", NATIVE),
    "mesh/native-sidecar": ("false", is_native, False, True, NATIVE),
    "mesh/proxy-await": ("disabled", has_wait, False, True, ORDINARY),
    "mesh/connect-timeout": (
        "300ms", proxy_env("MESH_PROXY_CONNECT_TIMEOUT"), "300ms", "1s", NATIVE),
    "mesh/drain-timeout": ("5s", proxy_env("MESH_PROXY_DRAIN_TIMEOUT"), "5s", "28s", NATIVE),
    "mesh/proxy-workers": ("4", proxy_env("MESH_PROXY_WORKERS"), "4", None, NATIVE),
    "mesh/redirect-mode": ("legacy", init_env("MESH_INIT_MODE"), "legacy", "auto", NATIVE),
}  # fmt: skip
SPELLINGS = [
    (annotation.name, spelling)
    for annotation in labels.ANNOTATIONS
    if annotation.name != labels.A_INJECT
    for spelling in (annotation.name, *annotation.aliases)
]


@pytest.mark.parametrize(("name", "spelling"), SPELLINGS)
def test_each_spelling_has_its_effect(name: str, spelling: str) -> None:
    written, effect, expected, without, cluster = EFFECTS[name]

    assert effect(inject(make_pod(), cluster=cluster)) == without
    assert effect(inject(make_pod({spelling: written}), cluster=cluster)) == expected


@pytest.mark.parametrize("name", EFFECTS)
def test_the_pod_wins_over_its_namespace_and_that_over_the_install(name: str) -> None:
    written, effect, expected, without, cluster = EFFECTS[name]
    said = {name: written}

    by_namespace = inject(make_pod(), namespace=Namespace("shop", {}, said), cluster=cluster)
    assert effect(by_namespace) == expected
    if isinstance(without, str):
        both = inject(make_pod({name: without}), namespace=Namespace("shop", {}, said))
        assert effect(both) == without
    config = InjectConfig(defaults={name: expected if isinstance(expected, str) else written})
    assert effect(inject(make_pod(), config=config, cluster=cluster)) == expected


@pytest.mark.parametrize("name", [n for n in EFFECTS if n != "mesh/proxy-image"])
def test_a_bad_value_is_told_and_leaves_the_default(name: str) -> None:
    _, effect, _, without, cluster = EFFECTS[name]
    pod = make_pod({name: "neither ] nor ["})

    outcome = plan(pod, cluster=cluster)

    assert isinstance(outcome, Injection)
    assert len(outcome.warnings) == 1
    assert outcome.warnings[0].startswith(f"annotation {name}: expected ")
    assert outcome.warnings[0].endswith("; ignored")
    assert effect(inject(pod, cluster=cluster)) == without


def test_a_bad_value_on_the_pod_falls_back_to_the_namespace() -> None:
    namespace = Namespace("shop", {}, {"mesh/proxy-log-level": "debug"})

    pod = inject(make_pod({"mesh/proxy-log-level": "loud"}), namespace=namespace)

    assert environment(proxy(pod))["MESH_PROXY_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("spelling", "written", "meaning"),
    [
        ("config.linkerd.io/proxy-log-level", "warn,linkerd=info,hickory=error", "warning"),
        ("config.linkerd.io/proxy-log-format", "plain", "text"),
        ("config.linkerd.io/access-log", "apache", "text"),
        ("config.linkerd.io/shutdown-grace-period", "120s", "120s"),
        ("config.linkerd.io/proxy-outbound-connect-timeout", "1000ms", "1000ms"),
    ],
)
def test_linkerd_s_values_are_understood(spelling: str, written: str, meaning: str) -> None:
    name = labels.ANNOTATION_BY_NAME[spelling].name

    assert resolve({spelling: written}, {}, InjectConfig())[name] == meaning


def test_another_mesh_s_image_is_never_taken() -> None:
    found = resolve(
        {"config.linkerd.io/proxy-image": "cr.l5d.io/linkerd/proxy"}, {}, InjectConfig()
    )

    assert found["mesh/proxy-image"] == ""
    assert "another mesh's proxy" in found.warnings[0]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("mesh/opaque-prts", "did you mean mesh/opaque-ports?"),
        (
            "config.linkerd.io/skip-inbound-port",
            "did you mean config.linkerd.io/skip-inbound-ports?",
        ),
        ("mesh/zzz", "it has no effect here"),
    ],
)
def test_an_unknown_annotation_is_told_with_the_nearest_name(key: str, hint: str) -> None:
    assert resolve({key: "1"}, {}, InjectConfig()).warnings == (
        f"annotation {key} is not known: {hint}",
    )
    assert resolve({}, {key: "1"}, InjectConfig()).warnings == (
        f"namespace annotation {key} is not known: {hint}",
    )


def test_what_a_mesh_writes_itself_is_no_misspelling() -> None:
    injected = inject(make_pod())

    assert resolve(injected["metadata"]["annotations"], {}, InjectConfig()).warnings == ()


def test_a_request_above_its_limit_is_lowered_so_that_the_pod_can_start() -> None:
    found = resolve(
        {"mesh/proxy-memory-request": "1Gi", "mesh/proxy-memory-limit": "64Mi"}, {}, InjectConfig()
    )

    assert found["mesh/proxy-memory-request"] == "64Mi"
    assert len(found.warnings) == 1


def test_a_value_of_many_thousand_characters_is_not_even_read() -> None:
    found = resolve({"mesh/opaque-ports": "1," * 50_000}, {}, InjectConfig())

    assert found["mesh/opaque-ports"] == ""
    assert "expected at most 2048 characters" in found.warnings[0]


@pytest.mark.parametrize("name", ["mesh/inject", "linkerd.io/inject"])
def test_an_ingress_controller_may_choose_services_by_header(name: str) -> None:
    config = InjectConfig(image="a:1")

    assert resolve({name: "ingress"}, {}, config).is_ingress
    assert resolve({}, {name: "ingress"}, config).is_ingress
    assert not resolve({name: "enabled"}, {}, config).is_ingress
