"""Files or a cluster -> a store and its snapshot, compiled as destination compiles them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from destination.compile import compile_store
from destination.endpoints import Cluster
from destination.snapshot import Snapshot
from destination.store import Store
from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError, MeshError
from mesh.explain.bypass import Annotations, read_annotations
from mesh.explain.expected import complete
from mesh.explain.pertinent import read_pertinent
from mesh.inject.config import KEY, InjectConfig, load_config
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import read_manifests, with_namespace

if TYPE_CHECKING:  # a client of the API is slow to import, and files need none
    from mesh.kube.client import KubeClient

Object = dict[str, Any]

_CORE: Final = ("namespaces", "services", "endpointslices.discovery.k8s.io", "pods")


@dataclass(frozen=True, slots=True)
class World:
    """What is asked about. `source` says in one line where it came from."""

    store: Store
    snapshot: Snapshot
    source: str
    annotations: Annotations
    faults: tuple[Finding, ...] = ()
    is_whole: bool = True  # False: documents that seemed not to matter were not read
    home: str = ""  # the namespace of a client that nobody names, where that is so


def compile_files(
    files: Sequence[tuple[str, str]],
    *,
    namespace: str,
    mesh_namespace: str,
    names: Sequence[str] = (),
) -> World:
    """Manifests with all that a cluster would add; with `names` perhaps only those that matter to
    them (`World.is_whole`). Raises MeshError when they hold no Service."""
    chosen = read_pertinent(files, names) if names else None
    if chosen is None:
        manifests, findings = read_manifests(files)
    else:
        manifests, findings = chosen.manifests, chosen.findings
    objects = [item.obj for item in with_namespace(manifests, namespace)]
    if not any(obj.get("kind") == "Service" for obj in objects):
        why = "; ".join(f"{f.file}:{f.line}: {f.message}" for f in findings)
        raise MeshError(f"no Service in these files; check -f{f' ({why})' if why else ''}")
    faults = tuple(finding for finding in findings if finding.level is Level.ERROR)
    read = "" if chosen is None else f", all that name them in {chosen.documents} documents"
    source = (
        f"objects in files: {len(objects)}{read}; pods and addresses are those expected of them"
    )
    found = _compiled(complete(objects, mesh_namespace), mesh_namespace, source, faults)
    if chosen is None:
        return found
    homes = {home or namespace for home in chosen.homes}
    return replace(found, is_whole=False, home=homes.pop() if len(homes) == 1 else "default")


async def compile_cluster(client: KubeClient, mesh_namespace: str) -> World:
    """The objects of a cluster as its API gives them now. Raises MeshError."""
    from mesh.kube.served import ROUTING, list_served

    objects: list[Object] = []
    try:
        for resource in _CORE:
            objects += await client.list(resource)
        objects += await list_served(client, ROUTING)
    except ApiError as error:
        advice = "ask for the right to list it" if error.code in (401, 403) else "run mesh check"
        raise MeshError(f"{error.message}; {advice}") from error
    with suppress(ApiError):  # no mesh here, or no right to read its values: the defaults hold
        objects.append(await client.get("configmaps", labels.CONFIG_MAP, mesh_namespace))
    source = (
        f"objects of the cluster: {len(objects)}, compiled here; no proxy was asked for its view"
    )
    return _compiled(objects, mesh_namespace, source, ())


def _compiled(
    objects: Iterable[Object], mesh_namespace: str, source: str, faults: tuple[Finding, ...]
) -> World:
    objects = list(objects)
    config = _config_of(objects, mesh_namespace)
    store = Store(cluster_domain=config.cluster_domain, mesh_namespace=mesh_namespace)
    store.apply_all((obj, False) for obj in objects)
    cluster = Cluster(config.trust_domain, mesh_namespace, config.cluster_domain)
    annotations = read_annotations(objects, config)
    return World(store, compile_store(store, cluster), source, annotations, faults)


def _config_of(objects: Iterable[Object], mesh_namespace: str) -> InjectConfig:
    """The install values among the objects, else those of a plain install."""
    for obj in objects:
        meta = obj.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        if obj.get("kind") == "ConfigMap" and meta.get("name") == labels.CONFIG_MAP:
            data = obj.get("data")
            text = data.get(KEY) if isinstance(data, dict) else None
            if meta.get("namespace") == mesh_namespace and isinstance(text, str):
                try:
                    return load_config(text)
                except ConfigError:
                    break
    return InjectConfig(namespace=mesh_namespace)
