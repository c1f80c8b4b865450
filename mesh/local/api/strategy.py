"""What each kind does when it is first written and when it is written again. Pure.

The part of Kubernetes' registry strategies that users meet: initial status, one-way fields,
`stringData`, Service addresses. Works in place on a fresh object.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Set
from typing import Any, Final

from mesh.core.quantity import parse_quantity
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.defaults import containers
from mesh.local.api.resources import Object
from mesh.local.api.status import Fault, bad, required

NODE_PORTS: Final = range(30000, 32768)


def fold_strings(secret: Object) -> None:
    """Move `stringData` of a Secret into `data`, as the server does on each write."""
    strings = secret.pop("stringData", None)
    if strings:
        data = secret["data"] = {**(secret.get("data") or {})}
        for key, value in strings.items():
            data[key] = base64.b64encode(str(value).encode()).decode()


def check_base64(obj: Object, field: str) -> str:
    """The words of Go's decoder when a value is not base64; empty when all are."""
    for value in filter(None, (obj.get(field) or {}).values()):
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            good = re.match(r"[A-Za-z0-9+/]*", value)
            return f"illegal base64 data at input byte {good.end() if good else 0}"
    return ""


def begin_pod(pod: Object) -> None:
    """The status of a new pod."""
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod.get("spec") or {})}


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from cpu and memory of all containers."""
    requests: list[Any] = []
    guaranteed = True
    for container in containers(spec):
        resources = container.get("resources") or {}
        asked, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            amount, limit = asked.get(name, limits.get(name)), limits.get(name)
            requests.extend(value for value in (amount, limit) if value is not None)
            if limit is None or amount is None or _differ(amount, limit):
                guaranteed = False
    if not requests:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _differ(one: Any, other: Any) -> bool:
    try:
        return parse_quantity(one) != parse_quantity(other)
    except ValueError:
        return bool(one != other)


def place_service(
    service: Object, old: Object | None, ranges: ClusterIPs, taken: Set[str], ports: Set[int]
) -> list[Fault]:
    """Give a Service its families, addresses and node ports; keeps those it had."""
    spec = service["spec"]
    before = (old or {}).get("spec") or {}
    if spec.get("type") == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(field, None)
        return [] if spec.get("externalName") else [required("spec.externalName")]
    if (
        before.get("clusterIP")
        and not spec.get("clusterIP")
        and before.get("type") != "ExternalName"
    ):
        spec["clusterIP"] = before["clusterIP"]
        spec.setdefault("clusterIPs", before.get("clusterIPs"))
    if before.get("ipFamilies"):
        spec.setdefault("ipFamilies", before["ipFamilies"])
        spec.setdefault("ipFamilyPolicy", before.get("ipFamilyPolicy"))
    _choose_families(spec, ranges)
    faults = _choose_addresses(service, before, ranges, taken)
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        _choose_node_ports(spec, before, ports)
    else:
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    return faults


def _choose_families(spec: Object, ranges: ClusterIPs) -> None:
    policy = spec.get("ipFamilyPolicy")
    if policy is None:
        policy = "RequireDualStack" if len(spec.get("ipFamilies") or ()) > 1 else "SingleStack"
        if spec.get("clusterIP") == "None" and not spec.get("selector"):
            policy = "RequireDualStack" if len(ranges.families) > 1 else "SingleStack"
        spec["ipFamilyPolicy"] = policy
    families = list(spec.get("ipFamilies") or ())
    address = spec.get("clusterIP")
    if not families and address not in (None, "", "None"):
        families = ["IPv6" if ":" in str(address) else "IPv4"]
    if not families:
        families = list(ranges.families[:1])
    if policy in ("PreferDualStack", "RequireDualStack"):
        families += [family for family in ranges.families if family not in families]
    else:
        families = families[:1]
    spec["ipFamilies"] = families


def _choose_addresses(
    service: Object, before: Object, ranges: ClusterIPs, taken: Set[str]
) -> list[Fault]:
    spec, meta = service["spec"], service["metadata"]
    given = spec.get("clusterIP") or ""
    had = before.get("clusterIP") or ""
    if had and had != given:
        return [bad("spec.clusterIPs[0]", [given], "may not change once set")]
    if given == "None":
        spec["clusterIPs"] = ["None"]
        return []
    addresses = [a for a in spec.get("clusterIPs") or () if a] or ([given] if given else [])
    for number, address in enumerate(addresses):
        fault = _address_fault(number, address, before, ranges, taken)
        if fault is not None:
            return [fault]
    for family in spec["ipFamilies"][len(addresses) :]:
        seed = f"{meta.get('namespace')}/{meta.get('name')}"
        found = ranges.allocate(family, taken, seed=seed)
        if found is None:
            return [bad("spec.ipFamilies", spec["ipFamilies"], f"no range or no free {family}")]
        addresses.append(found)
    spec["clusterIPs"] = addresses[: len(spec["ipFamilies"])]
    spec["clusterIP"] = spec["clusterIPs"][0]
    return []


def _address_fault(
    number: int, address: str, before: Object, ranges: ClusterIPs, taken: Set[str]
) -> Fault | None:
    field = f"spec.clusterIPs[{number}]"
    if address in (before.get("clusterIPs") or ()):
        return None
    try:
        inside = ranges.contains(address)
    except ValueError:
        return bad(field, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    if not inside:
        return bad(field, address, "the provided IP is not in the valid range")
    if address in taken:
        return bad(field, address, "provided IP is already allocated")
    return None


def _choose_node_ports(spec: Object, before: Object, taken: Set[int]) -> None:
    had = {port.get("port"): port.get("nodePort") for port in before.get("ports") or ()}
    used = set(taken)
    for port in spec.get("ports") or ():
        if not port.get("nodePort"):
            known = had.get(port.get("port"))
            port["nodePort"] = known or next(p for p in NODE_PORTS if p not in used)
        used.add(port["nodePort"])
