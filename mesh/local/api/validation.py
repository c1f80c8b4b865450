"""What the API server refuses in objects of built-in kinds, beyond unknown fields. Pure.

The checks that users run into; not all of Kubernetes' validation. Types and required
fields were checked before, in `fields`. Gives Faults; raises nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from mesh.local.api import limits, selectors, workloads
from mesh.local.api.podvalidation import LABEL, LABEL_WORDS, pod_spec_faults, port_number, protocol
from mesh.local.api.resources import Object, Resource
from mesh.local.api.status import Fault, bad, duplicate, forbidden_field, required, unsupported

_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
SERVICE_WORDS: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
    "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_VALUE_WORDS: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
    "'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
QUALIFIED_WORDS: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used "
    "for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
MAX_DATA: Final = 1 << 20  # bytes in a ConfigMap or Secret
MAX_ANNOTATIONS: Final = 256 << 10


def validate(resource: Resource, obj: Object) -> list[Fault]:
    """What is wrong with a defaulted object that is to be written."""
    faults = list(_metadata(resource, obj.get("metadata") or {}))
    check = _CHECKS.get(resource.key)
    if check is not None:
        faults.extend(check(obj))
    return faults


def validate_change(resource: Resource, obj: Object, old: Object) -> list[Fault]:
    """What may not change between the stored object and its successor."""
    check = _CHANGES.get(resource.key)
    return list(check(obj, old)) if check is not None else []


def _metadata(resource: Resource, meta: Mapping[str, Any]) -> Iterator[Fault]:
    name = meta.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from _name(resource, str(name))
    if resource.namespaced and meta.get("namespace") and not LABEL.fullmatch(meta["namespace"]):
        yield bad("metadata.namespace", meta["namespace"], LABEL_WORDS)
    yield from label_faults(meta.get("labels") or {}, "metadata.labels")
    annotations = meta.get("annotations") or {}
    for key in annotations:
        if not _is_qualified(key.lower()):
            yield bad("metadata.annotations", key, QUALIFIED_WORDS)
    if sum(len(k) + len(str(v)) for k, v in annotations.items()) > MAX_ANNOTATIONS:
        yield Fault(
            "metadata.annotations", "Too long", f"may not be more than {MAX_ANNOTATIONS} bytes"
        )
    for number, finalizer in enumerate(meta.get("finalizers") or ()):
        if not _is_qualified(finalizer) and finalizer not in ("orphan", "foregroundDeletion"):
            yield bad(f"metadata.finalizers[{number}]", finalizer, QUALIFIED_WORDS)
    for number, owner in enumerate(meta.get("ownerReferences") or ()):
        if not owner.get("uid"):
            yield bad(f"metadata.ownerReferences[{number}].uid", "", "must not be empty")


def _name(resource: Resource, name: str) -> Iterator[Fault]:
    field = "metadata.name"
    if resource.group == "rbac.authorization.k8s.io":
        if name in (".", "..") or "/" in name or "%" in name:
            yield bad(field, name, "may not contain '/' or '%' and may not be '.' or '..'")
    elif resource.key == "namespaces":
        if len(name) > 63:
            yield bad(field, name, "must be no more than 63 bytes")
        elif not LABEL.fullmatch(name):
            yield bad(field, name, LABEL_WORDS)
    elif resource.key == "services":
        if len(name) > 63:
            yield bad(field, name, "must be no more than 63 bytes")
        elif not _SERVICE.fullmatch(name):
            yield bad(field, name, SERVICE_WORDS)
    elif len(name) > 253:
        yield bad(field, name, "must be no more than 253 bytes")
    elif not _SUBDOMAIN.fullmatch(name):
        yield bad(field, name, SUBDOMAIN_WORDS)


def label_faults(labels: Mapping[str, Any], path: str) -> Iterator[Fault]:
    for key, value in labels.items():
        if not _is_qualified(key):
            yield bad(path, key, QUALIFIED_WORDS)
        if len(str(value)) > 63:
            yield bad(path, value, "must be no more than 63 bytes")
        elif not _LABEL_VALUE.fullmatch(str(value)):
            yield bad(path, value, LABEL_VALUE_WORDS)


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
        return False
    return _LABEL_KEY.fullmatch(name) is not None


def _pod(obj: Object) -> Iterator[Fault]:
    yield from pod_spec_faults(obj["spec"], "spec")


def _workload(obj: Object) -> Iterator[Fault]:
    spec = obj["spec"]
    replicas = spec.get("replicas")
    if isinstance(replicas, int) and replicas < 0:
        yield bad("spec.replicas", replicas, "must be greater than or equal to 0")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    selector = spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield bad("spec.selector", selector, "empty selector is invalid for deployment")
    else:
        try:
            if not selectors.matches(selectors.parse_selector(selector), labels):
                yield bad(
                    "spec.template.metadata.labels",
                    labels,
                    "`selector` does not match template `labels`",
                )
        except ValueError as error:
            yield bad("spec.selector", selector, str(error))
    yield from label_faults(labels, "spec.template.labels")
    inner = template.get("spec")
    if not isinstance(inner, dict):
        yield required("spec.template.spec.containers")
        return
    yield from pod_spec_faults(inner, "spec.template.spec")
    if inner.get("restartPolicy") != "Always":
        yield unsupported(
            "spec.template.spec.restartPolicy", inner.get("restartPolicy"), ("Always",)
        )


def _stateful_set(obj: Object) -> Iterator[Fault]:
    yield from _workload(obj)
    yield from workloads.stateful_set_faults(obj)


def _daemon_set(obj: Object) -> Iterator[Fault]:
    yield from _workload(obj)
    yield from workloads.daemon_set_faults(obj)


def _job(obj: Object) -> Iterator[Fault]:
    template = obj["spec"].get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from label_faults(labels, "spec.template.labels")
    yield from workloads.job_faults(obj["spec"], "spec")


def _service(obj: Object) -> Iterator[Fault]:
    spec = obj["spec"]
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec.get("type") not in kinds:
        yield unsupported("spec.type", spec.get("type"), kinds)
    ports = spec.get("ports") or ()
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield required("spec.ports")
    seen: list[Any] = []
    for number, port in enumerate(ports):
        place = f"spec.ports[{number}]"
        yield from port_number(port.get("port"), f"{place}.port")
        yield from protocol(port, place)
        if isinstance(port.get("targetPort"), int):
            yield from port_number(port["targetPort"], f"{place}.targetPort")
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{place}.name")
        elif port.get("name") and not LABEL.fullmatch(port["name"]):
            yield bad(f"{place}.name", port["name"], LABEL_WORDS)
        for one in (port.get("name"), (port.get("port"), port.get("protocol"))):
            if one and one in seen:
                yield (
                    duplicate(place, port)
                    if isinstance(one, tuple)
                    else duplicate(f"{place}.name", one)
                )
            seen.append(one)
    yield from label_faults(spec.get("selector") or {}, "spec.selector")


def _data(obj: Object) -> Iterator[Fault]:
    total = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            total += len(str(value))
            if not _KEY.fullmatch(key) or key in (".", ".."):
                words = (
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' "
                    "(e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation "
                    "is '[-._a-zA-Z0-9]+')"
                )
                yield bad(f"{field}[{key}]", key, words)
    if total > MAX_DATA:
        yield Fault("", "Too long", f"may not be more than {MAX_DATA} bytes")


def _role(obj: Object) -> Iterator[Fault]:
    for number, rule in enumerate(obj.get("rules") or ()):
        place = f"rules[{number}]"
        if not rule.get("verbs"):
            yield required(f"{place}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            if obj.get("kind") == "Role":
                words = "namespaced rules cannot apply to non-resource URLs"
                yield bad(f"{place}.nonResourceURLs", rule["nonResourceURLs"], words)
            continue
        if not rule.get("apiGroups"):
            yield required(
                f"{place}.apiGroups", "resource rules must supply at least one api group"
            )
        if not rule.get("resources"):
            yield required(f"{place}.resources", "resource rules must supply at least one resource")


def _binding(obj: Object) -> Iterator[Fault]:
    role = obj.get("roleRef") or {}
    kinds = ("ClusterRole",) if obj.get("kind") == "ClusterRoleBinding" else ("ClusterRole", "Role")
    if role.get("kind") not in kinds:
        yield unsupported("roleRef.kind", role.get("kind"), kinds)
    for number, subject in enumerate(obj.get("subjects") or ()):
        place = f"subjects[{number}]"
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            kind = subject.get("kind")
            yield unsupported(f"{place}.kind", kind, ("ServiceAccount", "User", "Group"))
        if (
            subject.get("kind") == "ServiceAccount"
            and not subject.get("namespace")
            and obj.get("kind") == "ClusterRoleBinding"
        ):
            yield required(f"{place}.namespace")


def _webhook_configuration(obj: Object) -> Iterator[Fault]:
    names: list[str] = []
    for number, webhook in enumerate(obj.get("webhooks") or ()):
        place = f"webhooks[{number}]"
        name = webhook.get("name", "")
        if name.count(".") < 2:
            yield bad(
                f"{place}.name",
                name,
                "should be a domain with at least three segments separated by dots",
            )
        if name in names:
            yield duplicate(f"{place}.name", name)
        names.append(name)
        if webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            yield unsupported(
                f"{place}.sideEffects", webhook.get("sideEffects"), ("None", "NoneOnDryRun")
            )
        if webhook.get("failurePolicy") not in ("Fail", "Ignore"):
            yield unsupported(
                f"{place}.failurePolicy", webhook.get("failurePolicy"), ("Fail", "Ignore")
            )
        seconds = webhook.get("timeoutSeconds", 10)
        if not 1 <= seconds <= 30:
            words = "the timeout value must be between 1 and 30 seconds"
            yield bad(f"{place}.timeoutSeconds", seconds, words)
        client = webhook.get("clientConfig") or {}
        if bool(client.get("url")) == bool(client.get("service")):
            yield required(f"{place}.clientConfig", "exactly one of url or service is required")
        elif client.get("url") and not client["url"].startswith("https://"):
            words = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
            scheme = client["url"].partition("://")[0]
            yield bad(f"{place}.clientConfig.url", scheme, words)
        if webhook.get("matchConditions"):
            words = "mesh local has no matchConditions"
            yield forbidden_field(f"{place}.matchConditions", words)


def _endpoint_slice(obj: Object) -> Iterator[Fault]:
    kinds = ("IPv4", "IPv6", "FQDN")
    if obj.get("addressType") not in kinds:
        yield unsupported("addressType", obj.get("addressType"), kinds)
    for number, endpoint in enumerate(obj.get("endpoints") or ()):
        if not endpoint.get("addresses"):
            yield required(f"endpoints[{number}].addresses", "must contain at least 1 address")


_Check = Callable[[Object], Iterable[Fault]]
_CHECKS: Final[Mapping[str, _Check]] = {
    "pods": _pod,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "statefulsets.apps": _stateful_set,
    "daemonsets.apps": _daemon_set,
    "jobs.batch": _job,
    "cronjobs.batch": workloads.cron_job_faults,
    "services": _service,
    "configmaps": _data,
    "secrets": _data,
    "roles.rbac.authorization.k8s.io": _role,
    "clusterroles.rbac.authorization.k8s.io": _role,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhook_configuration,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhook_configuration,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "resourcequotas": limits.quota_faults,
    "limitranges": limits.range_faults,
}


def _same(path: str, new: Any, old: Any) -> Iterator[Fault]:
    if new != old:
        yield bad(path, new, "field is immutable")


def _pod_change(obj: Object, old: Object) -> Iterator[Fault]:
    if _frozen_pod(obj) != _frozen_pod(old):
        yield forbidden_field(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
            "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
            "(allow it to be set to 1 if it was previously negative)",
        )


def _frozen_pod(pod: Object) -> Object:
    free = ("activeDeadlineSeconds", "tolerations", "schedulingGates", "nodeName")
    spec = {key: value for key, value in pod["spec"].items() if key not in free}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            spec[field] = [{**container, "image": ""} for container in spec[field]]
    return spec


def _selector_change(obj: Object, old: Object) -> Iterator[Fault]:
    yield from _same("spec.selector", obj["spec"].get("selector"), old["spec"].get("selector"))


def _role_change(obj: Object, old: Object) -> Iterator[Fault]:
    if obj.get("roleRef") != old.get("roleRef"):
        role = obj.get("roleRef") or {}
        shown = {name: role.get(name[0].lower() + name[1:], "") for name in ("Kind", "Name")}
        yield bad(
            "roleRef", {"APIGroup": role.get("apiGroup", ""), **shown}, "cannot change roleRef"
        )


def _data_change(obj: Object, old: Object) -> Iterator[Fault]:
    if old.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if obj.get(field) != old.get(field):
                yield forbidden_field(field, "field is immutable when `immutable` is set")


def _secret_change(obj: Object, old: Object) -> Iterator[Fault]:
    yield from _same("type", obj.get("type"), old.get("type"))
    yield from _data_change(obj, old)


def _definition_change(obj: Object, old: Object) -> Iterator[Fault]:
    for field in ("group", "scope"):
        yield from _same(f"spec.{field}", obj["spec"].get(field), old["spec"].get(field))
    for field in ("plural", "kind"):
        new, before = obj["spec"]["names"].get(field), old["spec"]["names"].get(field)
        yield from _same(f"spec.names.{field}", new, before)
    present = {version["name"] for version in obj["spec"].get("versions") or ()}
    for number, name in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if name not in present:
            words = f"must appear in spec.versions: status.storedVersions[{number}]"
            yield bad(f"status.storedVersions[{number}]", name, words)


def _slice_change(obj: Object, old: Object) -> Iterator[Fault]:
    yield from _same("addressType", obj.get("addressType"), old.get("addressType"))


_CHANGES: Final[Mapping[str, Callable[[Object, Object], Iterator[Fault]]]] = {
    "pods": _pod_change,
    "deployments.apps": _selector_change,
    "replicasets.apps": _selector_change,
    "statefulsets.apps": workloads.stateful_set_change,
    "daemonsets.apps": _selector_change,
    "jobs.batch": workloads.job_change,
    "rolebindings.rbac.authorization.k8s.io": _role_change,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_change,
    "configmaps": _data_change,
    "secrets": _secret_change,
    "customresourcedefinitions.apiextensions.k8s.io": _definition_change,
    "endpointslices.discovery.k8s.io": _slice_change,
}
