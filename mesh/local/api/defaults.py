"""What the API server fills in when an object of a built-in kind is written. Pure.

Works in place, so that a second time changes nothing. Follows Kubernetes' SetDefaults
functions for the fields that users see. Addresses, names and admission are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mesh.local.api.resources import Object

_RBAC_GROUP: Final = "rbac.authorization.k8s.io"
_MODE: Final = 420  # 0644


def set_defaults(key: str, obj: Object) -> None:
    """Fill in the defaults of the resource `key`, in place."""
    found = _DEFAULTS.get(key)
    if found is not None:
        found(obj)


def containers(spec: Mapping[str, Any]) -> Iterator[Object]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _fill(target: Object, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    _fill(spec, {"enableServiceLinks": True})
    for container in containers(spec):
        resources = container["resources"]
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)


def _pod_spec(spec: Object) -> None:
    _fill(
        spec,
        {
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30,
            "securityContext": {},
        },
    )
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        name = spec.get("serviceAccountName") or spec["serviceAccount"]
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    for container in containers(spec):
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _volume(volume)


def _container(container: Object, *, host_network: bool) -> None:
    _fill(
        container,
        {
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": _pull_policy(container.get("image") or ""),
            "resources": {},
        },
    )
    for port in container.get("ports") or ():
        _fill(port, {"protocol": "TCP"})
        if host_network and port.get("containerPort"):
            _fill(port, {"hostPort": port["containerPort"]})
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(probe), dict):
            _probe(container[probe])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict) and isinstance(hook.get("httpGet"), dict):
            _fill(hook["httpGet"], {"path": "/", "scheme": "HTTP"})
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if isinstance(source.get("fieldRef"), dict):
            _fill(source["fieldRef"], {"apiVersion": "v1"})
        if isinstance(source.get("resourceFieldRef"), dict):
            _fill(source["resourceFieldRef"], {"divisor": "0"})


def _pull_policy(image: str) -> str:
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _probe(probe: Object) -> None:
    values = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1}
    _fill(probe, {**values, "failureThreshold": 3})
    for field in values:
        probe[field] = probe[field] or values[field]  # Go takes 0 as unset
    probe["failureThreshold"] = probe["failureThreshold"] or 3
    if isinstance(probe.get("httpGet"), dict):
        _fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})
    if isinstance(probe.get("grpc"), dict):
        _fill(probe["grpc"], {"service": ""})


def _volume(volume: Object) -> None:
    if not any(key != "name" and value is not None for key, value in volume.items()):
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "downwardAPI", "projected"):
        if isinstance(volume.get(source), dict):
            _fill(volume[source], {"defaultMode": _MODE})
    if isinstance(volume.get("hostPath"), dict):
        _fill(volume["hostPath"], {"type": ""})
    items = list((volume.get("downwardAPI") or {}).get("items") or ())
    for source in (volume.get("projected") or {}).get("sources") or ():
        if isinstance(source.get("serviceAccountToken"), dict):
            _fill(source["serviceAccountToken"], {"expirationSeconds": 3600})
        items.extend((source.get("downwardAPI") or {}).get("items") or ())
    for item in items:
        if isinstance(item.get("fieldRef"), dict):
            _fill(item["fieldRef"], {"apiVersion": "v1"})


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(
        spec,
        {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {}},
    )
    strategy = spec["strategy"]
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _fill(strategy, {"rollingUpdate": {}})
        _fill(strategy["rollingUpdate"], {"maxUnavailable": "25%", "maxSurge": "25%"})
    _template(spec)


def _replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, {"replicas": 1})
    _template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def _stateful_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    values = {"replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10}
    _fill(spec, {**values, "updateStrategy": {}})
    strategy = spec["updateStrategy"]
    _fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        _fill(strategy, {"rollingUpdate": {}})
        _fill(strategy["rollingUpdate"], {"partition": 0})
    retention = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    _fill(spec, {"persistentVolumeClaimRetentionPolicy": retention})
    _template(spec)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def _daemon_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, {"revisionHistoryLimit": 10, "updateStrategy": {}})
    strategy = spec["updateStrategy"]
    _fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        _fill(strategy, {"rollingUpdate": {}})
        _fill(strategy["rollingUpdate"], {"maxSurge": 0, "maxUnavailable": 1})
    _template(spec)


def _job(obj: Object) -> None:
    _job_spec(obj.setdefault("spec", {}))


def _job_spec(spec: Object) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    _fill(spec, {"parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed"})
    _fill(spec, {"suspend": False, "podReplacementPolicy": "TerminatingOrFailed"})
    _template(spec)


def _cron_job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    limits = {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}
    _fill(spec, {"concurrencyPolicy": "Allow", "suspend": False, **limits})
    template = spec.setdefault("jobTemplate", {})
    _job_spec(template.setdefault("spec", {}))


def _template(spec: Object) -> None:
    template = spec.setdefault("template", {})
    if isinstance(template.get("spec"), dict):
        _pod_spec(template["spec"])


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _fill(spec, {"sessionAffinity": "None", "type": "ClusterIP"})
    if spec["sessionAffinity"] == "ClientIP":
        _fill(spec, {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}})
    for port in spec.get("ports") or ():
        _fill(port, {"protocol": "TCP"})
        if port.get("targetPort") in (None, 0, "") and port.get("port") is not None:
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        _fill(spec, {"internalTrafficPolicy": "Cluster"})
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _fill(spec, {"externalTrafficPolicy": "Cluster"})
    if spec["type"] == "LoadBalancer":
        _fill(spec, {"allocateLoadBalancerNodePorts": True})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _secret(obj: Object) -> None:
    _fill(obj, {"type": "Opaque"})


def _namespace(obj: Object) -> None:
    meta = obj.setdefault("metadata", {})
    if meta.get("name"):
        meta["labels"] = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]}
    if not (meta.get("deletionTimestamp")):
        _fill(obj.setdefault("spec", {}), {"finalizers": ["kubernetes"]})
    _fill(obj.setdefault("status", {}), {"phase": "Active"})


def _binding(obj: Object) -> None:
    role = obj.get("roleRef")
    if isinstance(role, dict) and not role.get("apiGroup"):
        role["apiGroup"] = _RBAC_GROUP
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
            subject["apiGroup"] = _RBAC_GROUP


def _webhooks(*, mutating: bool) -> Callable[[Object], None]:
    def fill(obj: Object) -> None:
        for webhook in obj.get("webhooks") or ():
            _fill(
                webhook,
                {
                    "failurePolicy": "Fail",
                    "matchPolicy": "Equivalent",
                    "namespaceSelector": {},
                    "objectSelector": {},
                    "timeoutSeconds": 10,
                },
            )
            if mutating:
                _fill(webhook, {"reinvocationPolicy": "Never"})
            for rule in webhook.get("rules") or ():
                _fill(rule, {"scope": "*"})
            service = (webhook.get("clientConfig") or {}).get("service")
            if isinstance(service, dict):
                _fill(service, {"port": 443})

    return fill


def _definition(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if isinstance(names.get("kind"), str):
        _fill(names, {"singular": names["kind"].lower(), "listKind": names["kind"] + "List"})
    _fill(spec, {"conversion": {"strategy": "None"}})


def _endpoint_slice(obj: Object) -> None:
    for port in obj.get("ports") or ():
        _fill(port, {"name": "", "protocol": "TCP"})
    _fill(obj, {"endpoints": [], "ports": []})


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress"] + (["Egress"] if "egress" in spec else [])
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                _fill(port, {"protocol": "TCP"})


def _event(obj: Object) -> None:
    obj.setdefault("eventTime", None)  # Go writes these three whatever they hold
    _fill(obj, {"reportingComponent": "", "reportingInstance": ""})


def _priority_class(obj: Object) -> None:
    _fill(obj, {"preemptionPolicy": "PreemptLowerPriority"})


_DEFAULTS: Final[Mapping[str, Callable[[Object], None]]] = {
    "pods": _pod,
    "events": _event,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "statefulsets.apps": _stateful_set,
    "daemonsets.apps": _daemon_set,
    "jobs.batch": _job,
    "cronjobs.batch": _cron_job,
    "services": _service,
    "secrets": _secret,
    "namespaces": _namespace,
    f"rolebindings.{_RBAC_GROUP}": _binding,
    f"clusterrolebindings.{_RBAC_GROUP}": _binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks(mutating=True),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _webhooks(mutating=False),
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "networkpolicies.networking.k8s.io": _network_policy,
    "priorityclasses.scheduling.k8s.io": _priority_class,
}
