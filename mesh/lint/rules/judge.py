"""All rules over all manifests, in the order of their lines; pure."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.lint.rules.compiled import (
    compile_manifests,
    fill_store,
    find_problems,
    find_repeated,
)
from mesh.lint.rules.finding import Finding
from mesh.lint.rules.parents import find_parent_faults
from mesh.lint.rules.routes import find_route_faults
from mesh.lint.rules.shape import find_shape_faults
from mesh.lint.rules.shares import Held, find_share_faults
from mesh.lint.rules.source import Manifest
from mesh.lint.rules.tables import find_table_faults


def judge(manifests: list[Manifest]) -> list[Finding]:
    """Every finding in these objects; what the rules on annotations say comes on top."""
    store = fill_store(manifests)
    snapshot = compile_manifests(store)
    findings = [*find_problems(manifests, store, snapshot), *find_repeated(manifests)]
    findings += find_table_faults(manifests, store, snapshot)
    held = Held(manifests)
    gateways = {(item.namespace, item.name) for item in manifests if item.kind == "Gateway"}
    for item in manifests:
        findings += find_shape_faults(item)
        findings += find_parent_faults(item, store.services.keys(), gateways)
        findings += find_share_faults(item, store, held)
        if item.kind == "ServiceProfile" and item.group == "linkerd.io":
            findings += find_route_faults(item)
    return findings


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Without repeats, by file and line."""
    return sorted(dict.fromkeys(findings), key=lambda item: (item.file, item.line, item.path))
