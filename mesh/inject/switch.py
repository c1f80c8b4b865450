"""Whether a pod gets a proxy: one switch in three dialects, on the pod and on its namespace.

Rules, nearest first: our own annotation on the pod or, if it has none, the other dialects
there; then the same on the namespace. Where dialects disagree on one level, disabled wins.
Within Istio's own dialect a namespace that says disabled is final (Istio's rule); in ours and
in Linkerd's the pod wins. Values are looked for in annotations, then in labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mesh.core import labels
from mesh.core.quantity import parse_switch

OURS: Final = "mesh"
LINKERD: Final = "linkerd"
INGRESS: Final = "ingress"  # a value of the switch: requests choose their Service by a header
ISTIO: Final = "istio"


@dataclass(frozen=True)
class Said:
    """What one level says in one dialect. `enabled` is None when the value is not understood."""

    family: str
    name: str
    value: str
    enabled: bool | None


@dataclass(frozen=True)
class Verdict:
    """The outcome, the place that decided ("pod", "namespace" or "") and what was said there."""

    enabled: bool
    level: str = ""
    said: Said | None = None
    problems: tuple[str, ...] = ()


def family_of(name: str) -> str:
    """The mesh that a key of annotations or labels belongs to."""
    if "istio" in name.partition("/")[0]:
        return ISTIO
    return LINKERD if "linkerd.io" in name.partition("/")[0] else OURS


def decide(
    pod: Mapping[str, str], namespace: Mapping[str, str], *, foreign: frozenset[str] = frozenset()
) -> Verdict:
    """Decide from the keys of pod and namespace (labels, overlaid by annotations).

    `foreign` names the dialects whose own injector runs in the cluster: they do not count.
    """
    on_pod, on_namespace = _read(pod, foreign), _read(namespace, foreign)
    problems = tuple(
        f'{said.name}: expected enabled or disabled, got "{said.value[:40]}"; taken as disabled'
        for said in (*on_pod, *on_namespace)
        if said.enabled is None
    )
    if any(said.family == ISTIO and said.enabled is False for said in on_namespace):
        on_pod = [said for said in on_pod if said.family != ISTIO]
    for level, found in (("pod", on_pod), ("namespace", on_namespace)):
        if found:
            ours = [said for said in found if said.family == OURS]
            said = min(ours or found, key=lambda said: bool(said.enabled))
            return Verdict(bool(said.enabled), level, said, problems)
    return Verdict(False, problems=problems)


def _read(keys: Mapping[str, str], foreign: frozenset[str]) -> list[Said]:
    """What is said, our own dialect first, one entry a dialect (the first name given)."""
    annotation = labels.ANNOTATION_BY_NAME[labels.A_INJECT]
    found: dict[str, Said] = {}
    for name in (annotation.name, *annotation.aliases):
        family = family_of(name)
        if name not in keys or family in foreign or family in found:
            continue
        value = keys[name]
        found[family] = Said(family, name, value, _parse(family, value))
    return list(found.values())


def _parse(family: str, value: str) -> bool | None:
    if family in (OURS, LINKERD) and value == INGRESS:
        return True  # and more: see `annotations.resolve`
    try:
        return parse_switch(value)
    except ValueError:
        return None
