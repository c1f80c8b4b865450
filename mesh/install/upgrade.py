"""What `mesh upgrade` reads: the values of the installed mesh, and for --plan its objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import anyio

from mesh import __version__
from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError
from mesh.inject.config import KEY, InjectConfig, load_config
from mesh.inject.yamltext import load_one
from mesh.install.plan import Key, Plan, describe_behaviour, key_of, plan_upgrade
from mesh.install.render import VALUES_KEY, Manifest
from mesh.install.values import Tree
from mesh.install.verdicts import describe_verdicts
from mesh.kube.client import KubeClient
from mesh.kube.pods import labels_of
from mesh.kube.resources import Object, resource_of
from mesh.kube.served import ROUTING, list_served

_KINDS: Final = (
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "priorityclasses.scheduling.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
)
_KINDS_HERE: Final = (
    *("deployments.apps", "services", "serviceaccounts", "poddisruptionbudgets.policy"),
    *("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io"),
    "networkpolicies.networking.k8s.io",
)
_ROUTED: Final = ("namespaces", "services", "endpointslices.discovery.k8s.io", "pods")


async def read_config(client: KubeClient, namespace: str) -> Mapping[str, str]:
    """The data of ConfigMap mesh-config. Raises ConfigError where no mesh is installed."""
    try:
        config = await client.get("configmaps", labels.CONFIG_MAP, namespace)
    except ApiError as error:
        if error.code != 404:
            raise
        raise ConfigError(
            f"no mesh in namespace {namespace} (no ConfigMap {labels.CONFIG_MAP}): "
            "name its namespace with --mesh-namespace, or use mesh install"
        ) from error
    data: Any = config.get("data") or {}
    return {str(key): str(text) for key, text in data.items()}


def stored_values(data: Mapping[str, str], namespace: str) -> Tree:
    """The values that were given at the last install. Raises ConfigError."""
    try:
        tree = load_one(data.get(VALUES_KEY, ""))
    except ValueError as error:
        raise ConfigError(f"ConfigMap {labels.CONFIG_MAP}, {VALUES_KEY}: {error}") from error
    return {**(tree if isinstance(tree, dict) else {}), "namespace": namespace}


async def read_plan(
    client: KubeClient, wanted: Sequence[Manifest], data: Mapping[str, str], namespace: str
) -> Plan:
    """Compare with the cluster. Raises ApiError."""
    live: dict[Key, Object] = {}
    strays: list[Object] = []
    routed: list[Object] = []

    async def get(manifest: Manifest) -> None:
        resource, (_, where, name) = resource_of(manifest), key_of(manifest)
        try:
            live[key_of(manifest)] = await client.get(resource, name, where or None)
        except ApiError as error:
            if error.code != 404:
                raise

    async def list_ours(name: str, where: str | None) -> None:
        chosen = f"{labels.L_PART_OF}={labels.PART_OF}"
        strays.extend(await client.list(name, where, label_selector=chosen))

    async def list_routed(name: str) -> None:
        routed.extend(await client.list(name))

    async def list_routing() -> None:
        routed.extend(await list_served(client, ROUTING))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(list_routing)
        for kind in _ROUTED:
            tasks.start_soon(list_routed, kind)
        for manifest in wanted:
            tasks.start_soon(get, manifest)
        for kind in _KINDS:
            tasks.start_soon(list_ours, kind, None)
        for kind in _KINDS_HERE:
            tasks.start_soon(list_ours, kind, namespace)
    after = next(item["data"] for item in wanted if key_of(item)[2] == labels.CONFIG_MAP)
    strays.sort(key=lambda item: (item["kind"], item["metadata"]["name"]))
    plan = plan_upgrade(wanted, live, strays)
    pods = [pod for pod in routed if labels_of(pod).get(labels.L_CONTROL_NAMESPACE) == namespace]
    behaviour = describe_behaviour(data, after, pods, __version__)
    behaviour += describe_verdicts(routed, _config_of(after, namespace))
    return replace(plan, behaviour=tuple(behaviour))


def _config_of(data: Mapping[str, str], namespace: str) -> InjectConfig:
    try:
        return load_config(data.get(KEY, ""))
    except ConfigError:
        return InjectConfig(namespace=namespace)
