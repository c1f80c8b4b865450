"""A pod and its namespace -> the JSON patch that meshes it, or a reason why not. Pure.

Only adds: a proxy, an init container, volumes, labels, annotations, and rewritten tcpSocket
probes. The application's containers keep everything else, and nothing of the pod's own
security settings is touched. A pod that is meshed already gets only what came after us
(probes of containers that another webhook added), so a second run changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mesh import __version__
from mesh.core import labels
from mesh.inject import sidecar
from mesh.inject.annotations import Resolved, resolve
from mesh.inject.config import InjectConfig
from mesh.inject.jsonpatch import Op, PatchBuilder
from mesh.inject.probes import Probe, container_ports, rewrite_probes
from mesh.inject.refuse import find_obstacle
from mesh.inject.switch import Verdict, decide
from mesh.inject.workload import Workload, find_workload
from mesh.runtime.bundle import hash_bundle

Pod = Mapping[str, Any]
CREATED_BY: Final = f"mesh {__version__}"


@dataclass(frozen=True)
class Namespace:
    """What injection reads of a namespace."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, str]:
        return {**self.labels, **self.annotations}


@dataclass(frozen=True)
class Cluster:
    """What the cluster can do. `native`: API server and every kubelet know native sidecars.

    `foreign` names the dialects whose own injector runs here (`mesh.inject.switch`).
    """

    native: bool = True
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Injection:
    """The patch, empty when the pod is meshed already and complete.

    `is_new` is False when the pod had its proxy before.
    """

    patch: tuple[Op, ...]
    warnings: tuple[str, ...] = ()
    is_new: bool = True


@dataclass(frozen=True)
class Skip:
    """No proxy for this pod. `wanted`: somebody asked for one, so the reason is news."""

    reason: str  # a fixed word
    message: str
    wanted: bool
    warnings: tuple[str, ...] = ()


def plan_injection(
    pod: Pod, namespace: Namespace, config: InjectConfig, *, bundle: str, cluster: Cluster
) -> Injection | Skip:
    """Decide and plan. `bundle` is the trust bundle in force, PEM, never empty."""
    verdict = decide(keys_of(pod), namespace.keys, foreign=cluster.foreign)
    if not verdict.enabled:
        return _switched_off(verdict)
    if is_meshed(pod):
        return _complete(pod, config)
    obstacle = find_obstacle(pod, namespace.labels, config)
    if obstacle is not None:
        return Skip(obstacle[0], obstacle[1], wanted=True, warnings=verdict.problems)
    return mesh_pod(
        pod, namespace, config, bundle=bundle, cluster=cluster, warnings=verdict.problems
    )


def mesh_pod(
    pod: Pod,
    namespace: Namespace,
    config: InjectConfig,
    *,
    bundle: str,
    cluster: Cluster,
    workload: Workload | None = None,
    warnings: tuple[str, ...] = (),
) -> Injection:
    """The whole sidecar for a pod that is to get it; `workload` where the pod cannot tell."""
    chosen = resolve(
        _annotations(pod),
        namespace.annotations,
        config,
        port_names=dict(_named_ports(pod)),
        foreign=cluster.foreign,
    )
    native = {"true": True, "false": False}.get(chosen["mesh/native-sidecar"], cluster.native)
    patch = PatchBuilder(dict(pod))
    _add_marks(patch, workload or find_workload(pod), config, bundle)
    for volume in sidecar.volumes():
        patch.add(("spec", "volumes", len(_list(patch.document, "volumes"))), volume)
    _add_containers(patch, pod, config, chosen, bundle=bundle, native=native)
    more = _rewrite_all(patch, config, chosen)
    return Injection(tuple(patch.ops), (*warnings, *chosen.warnings, *more))


def is_meshed(pod: Pod) -> bool:
    """Whether the pod carries our proxy."""
    return any(c.get("name") == labels.PROXY_CONTAINER for c in all_containers(pod))


def all_containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """Init containers, then containers; what is not a map is left out."""
    for kind in ("initContainers", "containers"):
        yield from (c for c in _list(pod, kind) if isinstance(c, Mapping))


def _switched_off(verdict: Verdict) -> Skip:
    if verdict.said is None:
        return Skip("annotation_absent", "no inject annotation asks for a proxy", wanted=False)
    said, where = verdict.said, verdict.level
    if said.enabled is None:
        message = f"{where} {said.name}: {verdict.problems[0].partition(': ')[2]}"
        return Skip("invalid_switch", message, wanted=True, warnings=verdict.problems)
    message = f'{where} says {said.name}: "{said.value}"'
    return Skip("annotation_disabled", message, wanted=False, warnings=verdict.problems)


def _complete(pod: Pod, config: InjectConfig) -> Injection:
    """Probes of containers that came after us; the init container last, where it has to be."""
    chosen = resolve(_annotations(pod), {}, config, port_names=dict(_named_ports(pod)))
    patch = PatchBuilder(dict(pod))
    init = _list(pod, "initContainers")
    ours = [i for i, c in enumerate(init) if c.get("name") == labels.INIT_CONTAINER]
    native = any(c.get("name") == labels.PROXY_CONTAINER for c in init)
    if ours and not native and ours[0] != len(init) - 1:
        patch.remove(("spec", "initContainers", ours[0]))
        patch.add(("spec", "initContainers", len(init) - 1), init[ours[0]])
    warnings = _rewrite_all(patch, config, chosen)
    return Injection(tuple(patch.ops), tuple(warnings), is_new=False)


def _add_marks(patch: PatchBuilder, workload: Workload, config: InjectConfig, bundle: str) -> None:
    written = {labels.L_CONTROL_NAMESPACE: config.namespace, labels.L_WORKLOAD_KIND: workload.kind}
    if workload.label:
        written[labels.L_WORKLOAD_NAME] = workload.label
    for key, text in written.items():
        patch.add(("metadata", "labels", key), text)
    notes = {
        labels.A_CREATED_BY: CREATED_BY,
        labels.A_PROXY_VERSION: __version__,
        labels.A_TRUST_HASH: hash_bundle(bundle),
    }
    for key, text in notes.items():
        patch.add(("metadata", "annotations", key), text)


def _add_containers(
    patch: PatchBuilder,
    pod: Pod,
    config: InjectConfig,
    chosen: Resolved,
    *,
    bundle: str,
    native: bool,
) -> None:
    """Native: init and proxy before all others, which then run meshed. Ordinary: init last,
    so that the application's init containers still have a network."""
    init = sidecar.init_container(config, chosen)
    proxy = sidecar.proxy_container(pod, config, chosen, bundle=bundle, native=native)
    if native:
        patch.add(("spec", "initContainers", 0), init)
        patch.add(("spec", "initContainers", 1), proxy)
    else:
        patch.add(("spec", "initContainers", len(_list(pod, "initContainers"))), init)
        patch.add(("spec", "containers", 0), proxy)


def _rewrite_all(patch: PatchBuilder, config: InjectConfig, chosen: Resolved) -> list[str]:
    """Rewrite probes in every container but ours and note the originals for `uninject`."""
    warnings: list[str] = []
    originals: dict[str, dict[str, Probe]] = {}
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(_list(patch.document, kind)):
            if container.get("name") in (labels.PROXY_CONTAINER, labels.INIT_CONTAINER):
                continue
            changed, problems = rewrite_probes(
                container,
                admin_port=config.admin_port,
                skip_inbound=chosen["mesh/skip-inbound-ports"],
            )
            warnings += problems
            for name, probe in changed.items():
                original = originals.setdefault(str(container.get("name")), {})
                original[name] = container[name]
                patch.replace(("spec", kind, index, name), probe)
    if originals:
        noted = _annotations(patch.document).get(labels.A_REWRITTEN_PROBES)
        merged = {**read_originals(noted), **originals}
        text = json.dumps(merged, separators=(",", ":"), sort_keys=True)
        patch.add(("metadata", "annotations", labels.A_REWRITTEN_PROBES), text)
    return warnings


def read_originals(text: str | None) -> dict[str, dict[str, Probe]]:
    """The probes as they were, by container and field; empty when the note is not readable."""
    try:
        noted = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(noted, dict):
        return {}
    return {name: probes for name, probes in noted.items() if isinstance(probes, dict)}


def _named_ports(pod: Pod) -> Iterator[tuple[str, int]]:
    for container in all_containers(pod):
        yield from ((name, port) for name, port in container_ports(container) if name)


def _list(pod: Pod, kind: str) -> list[Any]:
    return (pod.get("spec") or {}).get(kind) or []


def _annotations(pod: Pod) -> Mapping[str, str]:
    return _texts((pod.get("metadata") or {}).get("annotations"))


def keys_of(pod: Pod) -> dict[str, str]:
    """Labels overlaid by annotations."""
    return {**_texts((pod.get("metadata") or {}).get("labels")), **_annotations(pod)}


def _texts(values: Any) -> dict[str, str]:
    """Only what is text: an offline manifest may hold anything."""
    if not isinstance(values, Mapping):
        return {}
    return {str(key): value for key, value in values.items() if isinstance(value, str)}
