"""Values -> manifests, in the order in which they are applied. Pure: same values, same bytes.

No key material and no caBundle ever stands in the output, so it can live in version control;
the one exception is an issuer that the operator brings as files.
"""

from __future__ import annotations

from typing import Any

from mesh import __version__
from mesh.core import labels
from mesh.inject.config import KEY, InjectConfig, dump_config
from mesh.inject.yamltext import dump_document, dump_documents
from mesh.install import crds, network, rbac
from mesh.install.gateway_crds import gateway_crds
from mesh.install.values import Proxy, Values, changed_values
from mesh.install.webhooks import webhook_configurations
from mesh.install.workloads import deployments

Manifest = dict[str, Any]
VALUES_KEY = "values.yaml"  # in ConfigMap mesh-config
VERSION_KEY = "version"


def render(values: Values, *, brought: Manifest | None = None) -> list[Manifest]:
    """All manifests. `brought` is the Secret of an issuer that was given as files."""
    found = [
        _namespace(values),
        *render_crds(values),
        *rbac.accounts(values.namespace),
        *rbac.roles(values.namespace),
        _config_map(values),
        *([brought] if brought else []),
        *network.priority_classes(values),
        *network.services(values),
        *deployments(values),
        *network.disruption_budgets(values),
        *network.network_policies(values),
        *webhook_configurations(values),
    ]
    return [_labelled(manifest) for manifest in found]


def render_crds(values: Values) -> list[Manifest]:
    """Only the definitions of kinds."""
    found = [*(crds.linkerd_crds() if values.crds.linkerd else [])]
    found += crds.smi_crds() if values.crds.smi else []
    found += gateway_crds() if values.crds.gateway else []
    return [_labelled(manifest) for manifest in found]


def print_manifests(manifests: list[Manifest]) -> str:
    """YAML, one document each."""
    return dump_documents(manifests)


def inject_config(values: Values) -> InjectConfig:
    """The part of the values that decides what injected pods look like."""
    proxy = values.proxy
    defaults = {
        item.metadata["annotation"]: getattr(proxy, item.name)
        for item in Proxy.__dataclass_fields__.values()
        if "annotation" in item.metadata
    }
    if not proxy.image_pull_policy:
        defaults["mesh/image-pull-policy"] = values.image_pull_policy
    return InjectConfig(
        namespace=values.namespace,
        trust_domain=values.trust_domain,
        cluster_domain=values.cluster_domain,
        image=values.image,
        inbound_port=proxy.inbound_port,
        outbound_port=proxy.outbound_port,
        admin_port=proxy.admin_port,
        defaults=defaults,
    )


def _namespace(values: Values) -> Manifest:
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": values.namespace, "labels": level},
    }


def _config_map(values: Values) -> Manifest:
    """What was installed: for the webhook, for `mesh check` and for the next upgrade."""
    data = {
        VERSION_KEY: __version__,
        VALUES_KEY: dump_document(changed_values(values)),
        KEY: dump_config(inject_config(values)),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": labels.CONFIG_MAP, "namespace": values.namespace},
        "data": data,
    }


def _labelled(manifest: Manifest) -> Manifest:
    meta = manifest["metadata"]
    ours = {labels.L_PART_OF: labels.PART_OF}
    return {**manifest, "metadata": {**meta, "labels": {**ours, **meta.get("labels", {})}}}
