"""Checks of the data plane: every proxy runs, is current, and every pod that asked has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh.check.cluster import parse_time
from mesh.check.facts import Facts
from mesh.check.foreign import foreign_families
from mesh.check.model import Category, Check, Fault, Severity
from mesh.check.podtext import describe_pod
from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.inject.annotations import resolve
from mesh.inject.config import KEY, InjectConfig, load_config
from mesh.inject.probes import container_ports
from mesh.inject.refuse import find_obstacle
from mesh.inject.switch import decide
from mesh.inject.workload import find_workload
from mesh.kube.pods import (
    annotations_of,
    containers,
    is_finished,
    is_leaving,
    is_meshed,
    is_proxy_ready,
    labels_of,
    name_of,
    namespace_of,
)
from mesh.kube.resources import Object

_BEHIND: Final = 5.0  # seconds that an update may wait for its acknowledgement
_LATELY: Final = 600.0  # seconds that a refusal counts as going on
_SETTLED: Final = 5.0  # seconds after which a stream should have its first view acknowledged


def namespace_is_there(facts: Facts) -> Iterator[Fault]:
    wanted = facts.namespace
    if wanted and wanted not in {name_of(namespace) for namespace in facts.namespaces.value}:
        yield Fault(f"namespace {wanted}", "there is none", "check the name given with -n")


def proxies_are_ready(facts: Facts) -> Iterator[Fault]:
    for pod in _meshed(facts):
        if not is_proxy_ready(pod):
            where = f"-n {namespace_of(pod)}"
            remedy = (
                f"`kubectl {where} describe pod {name_of(pod)}`, "
                f"`kubectl {where} logs {name_of(pod)} -c {labels.PROXY_CONTAINER}`"
            )
            said = facts.waits.get(f"{namespace_of(pod)}/{name_of(pod)}")
            what = describe_pod(pod) + (f"; its proxy is {said}" if said else "")
            yield Fault(_pod(pod), what, remedy)


def proxies_are_connected(facts: Facts) -> Iterator[Fault]:
    there = {(status.namespace, status.pod): status for status in facts.proxies.value.proxies}
    for pod in _meshed(facts):
        status = there.get((namespace_of(pod), name_of(pod)))
        if status is None:
            if is_proxy_ready(pod):
                remedy = f"it goes on with what it knows: `{_proxy_logs(pod)}`"
                yield Fault(_pod(pod), "its proxy has no stream to destination", remedy)
        elif status.behind > _BEHIND:
            what = (
                f"its proxy has version {status.acked} of its view, "
                f"version {status.sent} waits since {status.behind:.0f} s"
            )
            yield Fault(_pod(pod), what, f"`{_proxy_logs(pod)}`")


def proxies_have_the_bundle(facts: Facts) -> Iterator[Fault]:
    answer = facts.proxies.value
    for status in answer.proxies:
        if not _in_scope(facts, status.namespace) or status.connected < _SETTLED:
            continue
        if answer.bundle_hash and status.bundle_hash and status.bundle_hash != answer.bundle_hash:
            yield Fault(
                f"pod {status.namespace}/{status.pod}",
                f"trusts bundle {status.bundle_hash[:12]}, in force is {answer.bundle_hash[:12]}",
                "proxies take a new bundle within seconds; one that does not: restart its pod",
            )


def leaves_are_valid(facts: Facts) -> Iterator[Fault]:
    """By what destination was told, or where a proxy has no stream, by its own metrics."""
    ends = dict(facts.leaves)
    if not ends or facts.proxies.error is None:
        ends |= {f"{p.namespace}/{p.pod}": p.leaf_not_after for p in facts.proxies.value.proxies}
    for name, end in sorted(ends.items()):
        namespace, _, pod = name.partition("/")
        if _in_scope(facts, namespace) and 0 < end < facts.now:
            yield Fault(
                f"pod {name}",
                "its leaf has expired, so its peers refuse it",
                f"can it reach identity? `kubectl -n {namespace} logs {pod} "
                f"-c {labels.PROXY_CONTAINER}`",
            )


def proxies_are_current(facts: Facts) -> Iterator[Fault]:
    """By the version that the injector wrote, one line a workload."""
    seen: set[tuple[str, str]] = set()
    for pod in _meshed(facts):
        version = annotations_of(pod).get(labels.A_PROXY_VERSION)
        if not version or version == facts.our_version:
            continue
        name = _workload(pod)
        if (name, version) in seen:
            continue
        seen.add((name, version))
        what = f"its proxies have version {version}, this command is {facts.our_version}"
        yield Fault(name, what, _restart(pod))


def wanted_pods_are_meshed(facts: Facts) -> Iterator[Fault]:
    """Pods whose annotations ask for a proxy and that have none, one line a workload."""
    config, foreign = _config(facts), foreign_families(facts)
    namespaces = {name_of(namespace): namespace for namespace in facts.namespaces.value}
    found: dict[tuple[str, str], list[Object]] = {}
    for pod in facts.pods.value:
        if is_finished(pod) or is_leaving(pod) or is_meshed(pod):
            continue
        namespace = namespaces.get(namespace_of(pod), {})
        if namespace_of(pod) in (facts.mesh_namespace, "kube-system"):
            continue
        if not decide(_keys(pod), _keys(namespace), foreign=foreign).enabled:
            continue
        obstacle = find_obstacle(pod, labels_of(namespace), config)
        found.setdefault((_workload(pod), obstacle[1] if obstacle else ""), []).append(pod)
    for (name, why), pods in found.items():
        one = len(pods) == 1
        what = "a pod asks for a proxy and has none" if one else f"{len(pods)} pods ask for a proxy"
        what += "" if one else " and have none"
        if why:
            remedy = f"remove the obstacle, or say {labels.A_INJECT}: disabled"
            yield Fault(name, f"{what}: {why}", remedy)
        else:
            remedy = f"older than the annotation or the webhook: {_restart(pods[0])}"
            yield Fault(name, f"{what} ({_names(pods)})", remedy)


def wanted_pods_are_made(facts: Facts) -> Iterator[Fault]:
    """Pods that controllers could not make lately where pods are to be meshed: the proxy counts
    in quotas, and needs rights that a namespace may forbid."""
    foreign = foreign_families(facts)
    meshed = {
        name_of(item)
        for item in facts.namespaces.value
        if decide(_keys(item), {}, foreign=foreign).enabled
    }
    meshed |= {namespace_of(pod) for pod in facts.pods.value if is_meshed(pod)}
    seen: set[str] = set()
    for event in facts.refused.value:
        about, said = event.get("involvedObject") or {}, str(event.get("message") or "")
        last = parse_time(str(event.get("lastTimestamp") or ""))
        name = f"{about.get('kind')} {about.get('namespace')}/{about.get('name')}"
        if about.get("namespace") not in meshed or name in seen:
            continue
        if last is None or facts.now - last > _LATELY:
            continue
        seen.add(name)
        yield Fault(name, f"its pods are not made: {said}", _make_room(said))


def _make_room(said: str) -> str:
    if "quota" in said:
        return (
            "raise the quota, or lower what the proxy counts in it: annotations "
            "mesh/proxy-cpu-request, mesh/proxy-memory-limit and their like"
        )
    if "usage per" in said or "less than or equal to" in said:  # its own bounds, or its default
        return "a LimitRange has no room for the proxy: set its resources by annotation"
    if "PodSecurity" in said:
        return f"the level of the namespace forbids it: {labels.A_INJECT}: disabled, or baseline"
    return "the API server says why; it was asked for pods of a meshed namespace"


def annotations_are_known(facts: Facts) -> Iterator[Fault]:
    """Misspelt names and bad values, once for a namespace and once for a workload."""
    config, foreign = _config(facts), foreign_families(facts)
    for namespace in facts.namespaces.value:
        if _in_scope(facts, name_of(namespace)):
            for warning in resolve({}, annotations_of(namespace), config, foreign=foreign).warnings:
                name = f"namespace {name_of(namespace)}"
                yield _annotation_fault(name, warning.removeprefix("namespace "))
    seen: set[tuple[str, str]] = set()
    for pod in facts.pods.value:
        if is_finished(pod) or not _has_our_keys(annotations_of(pod)):
            continue
        ports = {name: port for c in containers(pod) for name, port in container_ports(c)}
        resolved = resolve(annotations_of(pod), {}, config, port_names=ports, foreign=foreign)
        for warning in resolved.warnings:
            if (_workload(pod), warning) not in seen:
                seen.add((_workload(pod), warning))
                yield _annotation_fault(_workload(pod), warning)


def _annotation_fault(name: str, warning: str) -> Fault:
    remedy = "correct it on the namespace or the pod template; pods that are new then follow it"
    return Fault(name, warning, remedy)


def annotations_are_no_labels(facts: Facts) -> Iterator[Fault]:
    """A setting written as a label has no effect; only the switch is read there as well."""
    switch = labels.ANNOTATION_BY_NAME[labels.A_INJECT]
    settings = labels.ANNOTATION_BY_NAME.keys() - {switch.name, *switch.aliases}
    seen: set[tuple[str, str]] = set()
    for pod in facts.pods.value:
        for key in sorted(settings & labels_of(pod).keys()):
            if (_workload(pod), key) not in seen:
                seen.add((_workload(pod), key))
                what = f"{key} is written as a label, which has no effect"
                yield Fault(_workload(pod), what, "write it under metadata.annotations")


def _meshed(facts: Facts) -> Iterator[Object]:
    for pod in facts.pods.value:
        if is_meshed(pod) and not is_finished(pod) and not is_leaving(pod):
            yield pod


def _in_scope(facts: Facts, namespace: str) -> bool:
    return facts.namespace is None or facts.namespace == namespace


def _keys(obj: Mapping[str, Any]) -> dict[str, str]:
    return {**labels_of(obj), **annotations_of(obj)}


def _has_our_keys(keys: Mapping[str, str]) -> bool:
    return any(key.startswith(labels.OUR_PREFIXES) for key in keys)


def _config(facts: Facts) -> InjectConfig:
    """The injector's settings; the defaults where they cannot be read."""
    data = (facts.config.got or {}).get("data") or {}
    try:
        return load_config(str(data[KEY]))
    except (KeyError, ConfigError):
        return InjectConfig(namespace=facts.mesh_namespace)


def _pod(pod: Mapping[str, Any]) -> str:
    return f"pod {namespace_of(pod)}/{name_of(pod)}"


def _workload(pod: Mapping[str, Any]) -> str:
    owner = find_workload(pod)
    return f"{owner.kind} {namespace_of(pod)}/{owner.name}"


def _restart(pod: Mapping[str, Any]) -> str:
    owner = find_workload(pod)
    if owner.kind in ("deployment", "statefulset", "daemonset"):
        return f"`kubectl -n {namespace_of(pod)} rollout restart {owner.kind}/{owner.name}`"
    return f"create it anew after `kubectl -n {namespace_of(pod)} delete pod {name_of(pod)}`"


def _proxy_logs(pod: Mapping[str, Any]) -> str:
    return f"kubectl -n {namespace_of(pod)} logs {name_of(pod)} -c {labels.PROXY_CONTAINER}"


def _names(pods: list[Object]) -> str:
    names = [name_of(pod) for pod in pods[:3]]
    return ", ".join(names) + (", ..." if len(pods) > 3 else "")


DATA_PLANE: Final = Category(
    "mesh-data-plane",
    (
        Check("the namespace is there", namespace_is_there, Severity.FATAL),
        Check("every proxy is ready", proxies_are_ready, retryable=True),
        Check("every proxy follows destination", proxies_are_connected, retryable=True),
        Check("every proxy is on the current bundle", proxies_have_the_bundle, Severity.WARNING),
        Check("every proxy's leaf is within its time", leaves_are_valid, retryable=True),
        Check("every proxy has the command's version", proxies_are_current, Severity.WARNING),
        Check("every pod that asks for a proxy has one", wanted_pods_are_meshed, Severity.WARNING),
        Check("every pod that is to be meshed is made", wanted_pods_are_made, Severity.WARNING),
        Check("every annotation is known and understood", annotations_are_known, Severity.WARNING),
        Check("no annotation is written as a label", annotations_are_no_labels, Severity.WARNING),
    ),
)
