"""New ClusterIPs for Services whose range is another one since the last run.

The ranges of a cluster are picked free at each `up`; where another took the old one meanwhile,
Services move. Pods get new addresses at each start anyway, and everything finds Services by name.
"""

from __future__ import annotations

from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.store import Store


def renumber(store: Store, ranges: ClusterIPs) -> int:
    """Move each Service with an address outside of the ranges; how many moved."""
    services = [
        service
        for service in store.list("services")
        if service["spec"].get("clusterIP") not in (None, "", "None")
    ]
    taken = {
        address
        for service in services
        for address in service["spec"]["clusterIPs"]
        if ranges.contains(address)
    }
    moved = 0
    for service in services:
        spec, meta = service["spec"], service["metadata"]
        if all(ranges.contains(address) for address in spec["clusterIPs"]):
            continue
        families = [family for family in spec["ipFamilies"] if family in ranges.families]
        families = families or list(ranges.families[:1])
        key = f"{meta['namespace']}/{meta['name']}"
        addresses = []
        for family in families:
            found = ranges.allocate(family, taken, seed=key)
            if key == "default/kubernetes":
                found = ranges.first(family)
            if found is not None:
                addresses.append(found)
                taken.add(found)
        spec["ipFamilies"], spec["clusterIPs"] = families, addresses
        spec["clusterIP"] = addresses[0]
        store.update("services", service)
        moved += 1
    return moved
