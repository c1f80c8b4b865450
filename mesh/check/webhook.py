"""Checks of injection: the webhook is registered, and an annotated pod really gets a proxy."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mesh.check.facts import Facts
from mesh.check.model import Category, Check, Fault
from mesh.core import labels
from mesh.core.errors import ApiError, IdentityError
from mesh.kube.pods import containers, name_of
from mesh.kube.resources import Object
from mesh.pki.authority import load_certificates, not_after, not_before, when
from mesh.runtime.bundle import hash_bundle

_LEVEL = "pod-security.kubernetes.io/enforce"
_LATE: Final = 0.2  # of a certificate's life: it is renewed when 30 % are left
_REINSTALL = "apply the installation again: `mesh install | kubectl apply -f -`"


def probe_pod(namespace: str) -> Object:
    """The pod that the dry run sends: annotated, and never started."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "mesh-check-",
            "namespace": namespace,
            "annotations": {labels.A_INJECT: "enabled"},
        },
        "spec": {
            "containers": [
                {"name": "probe", "image": "registry.k8s.io/pause:3.9", "command": ["/pause"]}
            ],
            "restartPolicy": "Never",
        },
    }


def probe_namespace(namespaces: Sequence[Object], mesh_namespace: str) -> str:
    """Where the dry run goes: `default`, unless its Pod Security level refuses any proxy."""
    usable = [
        name_of(namespace)
        for namespace in namespaces
        if name_of(namespace) not in (mesh_namespace, "kube-system")
        and not name_of(namespace).startswith("kube-")
        and ((namespace.get("metadata") or {}).get("labels") or {}).get(_LEVEL)
        not in ("restricted", "baseline")
        and (namespace.get("status") or {}).get("phase") != "Terminating"
    ]
    return "default" if "default" in usable or not usable else usable[0]


def webhook_is_registered(facts: Facts) -> Iterator[Fault]:
    name = f"MutatingWebhookConfiguration {labels.WEBHOOK_CONFIGURATION}"
    configuration = _named(facts.mutating.value, labels.WEBHOOK_CONFIGURATION)
    if configuration is None:
        yield Fault(name, "there is none, so no pod gets a proxy", _REINSTALL)
        return
    for webhook in configuration.get("webhooks") or ():
        client = webhook.get("clientConfig") or {}
        place = client.get("service") or {}
        if place and place.get("namespace") != facts.mesh_namespace:
            yield Fault(
                name,
                f"points to namespace {place.get('namespace')}, not to {facts.mesh_namespace}",
                "two meshes share this name: uninstall one, or choose with --mesh-namespace",
            )


def bundles_are_set(facts: Facts) -> Iterator[Fault]:
    for kind, configuration in (
        ("Mutating", _named(facts.mutating.value, labels.WEBHOOK_CONFIGURATION)),
        ("Validating", _named(facts.validating.value, labels.VALIDATING_CONFIGURATION)),
    ):
        for webhook in (configuration or {}).get("webhooks") or ():
            fault = _bundle_fault((webhook.get("clientConfig") or {}).get("caBundle"))
            if fault:
                yield Fault(
                    f"{kind}WebhookConfiguration {name_of(configuration or {})}",
                    f"webhook {webhook.get('name')}: {fault}",
                    f"{labels.INJECT} writes it within seconds once it runs: "
                    f"`kubectl -n {facts.mesh_namespace} logs deploy/{labels.INJECT}`",
                )


def _bundle_fault(text: object) -> str:
    if not text:
        return "caBundle is empty"
    try:
        pem = base64.b64decode(str(text), validate=True).decode("ascii", "replace")
    except binascii.Error:
        return "caBundle is not base64"
    return "" if hash_bundle(pem) else "caBundle holds no certificate"


def serving_certificate_lasts(facts: Facts) -> Iterator[Fault]:
    """The newest CA of caBundle ends with the certificate that it signed, for a CA signs one
    only (mesh.inject.certs), which is renewed at 70 % of its life."""
    configuration = _named(facts.mutating.value, labels.WEBHOOK_CONFIGURATION) or {}
    for webhook in configuration.get("webhooks") or ():
        text = (webhook.get("clientConfig") or {}).get("caBundle")
        if _bundle_fault(text):
            continue  # another check says so
        pem = base64.b64decode(str(text)).decode("ascii", "replace")
        try:
            newest = max(load_certificates(pem, where="caBundle"), key=not_after)
        except IdentityError as error:
            raise ApiError(0, "BadCertificate", str(error)) from error
        ends = not_after(newest)
        left = ends - facts.now
        if left >= _LATE * (ends - not_before(newest)):
            continue
        yield Fault(
            f"webhook {webhook.get('name')}",
            f"its certificate {'ended' if left <= 0 else 'should be renewed by now, it ends'} "
            f"at {when(ends)}",
            f"`kubectl -n {facts.mesh_namespace} rollout restart deploy/{labels.INJECT}`, and "
            f"`kubectl -n {facts.mesh_namespace} logs deploy/{labels.INJECT}` for the reason",
            minor=left > 0,
        )


def annotated_pod_is_injected(facts: Facts) -> Iterator[Fault]:
    error = facts.dry_run.error
    if error is not None:
        yield Fault(
            "a dry run of an annotated pod",
            f"was refused: {error.message}",
            "the right to create pods, quotas, Pod Security levels and other webhooks decide this",
            minor=error.code in (401, 403),
        )
        return
    pod = facts.dry_run.value
    names = {str(container.get("name")) for container in containers(pod)}
    missing = sorted({labels.PROXY_CONTAINER, labels.INIT_CONTAINER} - names)
    if missing:
        where = (pod.get("metadata") or {}).get("namespace")
        yield Fault(
            f"a dry run of a pod in namespace {where} with {labels.A_INJECT}: enabled",
            f"came back without container {' and '.join(missing)}",
            f"`kubectl -n {facts.mesh_namespace} logs deploy/{labels.INJECT}`; can the API server "
            f"reach Service {facts.mesh_namespace}/{labels.INJECT}? A firewall between it and "
            "the nodes, or a network policy, is a common cause",
        )


def _named(configurations: Sequence[Object], name: str) -> Mapping[str, Any] | None:
    return next((item for item in configurations if name_of(item) == name), None)


WEBHOOK: Final = Category(
    "mesh-webhook",
    (
        Check("the webhook is registered", webhook_is_registered, retryable=True),
        Check("the caBundle of each webhook is set", bundles_are_set, retryable=True),
        Check("the webhook's certificate is renewed in time", serving_certificate_lasts),
        Check("an annotated pod gets a proxy", annotated_pod_is_injected, retryable=True),
    ),
)
