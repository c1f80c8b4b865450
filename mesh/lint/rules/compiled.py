"""What destination's own compiler says of the manifests, with file, line and remedy; pure.

The words are the compiler's, so that lint says before `kubectl apply` what the status of an
object would say after it. References into a namespace of which the files hold no Service are
not judged: the Services may well be in the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from destination import fragments
from destination.compile import compile_store
from destination.fragments import Outcome, Ref
from destination.store import LINKERD_SPLITS, PROFILES, SERVICES, SMI_SPLITS, Store
from mesh.core.model import Problem, Severity
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

RESOURCES: Final = {
    ("", "Service"): SERVICES,
    ("linkerd.io", "ServiceProfile"): PROFILES,
    ("linkerd.io", "TrafficSplit"): LINKERD_SPLITS,
    ("split.smi-spec.io", "TrafficSplit"): SMI_SPLITS,
}
_WARNINGS: Final = frozenset(
    (
        fragments.NOT_SUPPORTED,
        fragments.SHADOWED,
        fragments.EXTERNAL_SERVICE,
        fragments.NOT_HTTP,
    )
)
_REMEDIES: Final = {
    fragments.ACCEPTED_SPELLING: "write the common spelling",
    fragments.RESOLVED_NAME: "write the full name of the Service",
    fragments.NOT_RECURSIVE: "name the leaves of that split here, if they should get this share",
    fragments.UNKNOWN_FIELD: "correct the name, or remove the field",
    fragments.NOT_SUPPORTED: "remove it, or accept that it has no effect",
    fragments.MALFORMED: "write what is expected",
    fragments.EMPTY_CONDITION: "give a condition, or remove the route",
    fragments.INVALID_REGEX: "correct the pattern (RE2 syntax)",
    fragments.INVALID_DURATION: "write a duration such as 300ms or 5s",
    fragments.INVALID_STATUS: "write codes from 100 to 599",
    fragments.INVALID_WEIGHT: "write a weight of 0 or more, such as 90 or 500m",
    fragments.INVALID_PORTS: "write ports and ranges such as 80,8000-8010",
    fragments.NO_BACKENDS: "list at least one Service with its weight",
    fragments.NO_WEIGHT: "give at least one backend a weight above 0",
    fragments.NO_SUCH_SERVICE: "correct the name, or add the Service",
    fragments.PORT_MISMATCH: "give the backend the same ports",
    fragments.HEADLESS_APEX: "split a Service that has a ClusterIP",
    fragments.EXTERNAL_SERVICE: "name a Service with endpoints",
    fragments.NOT_HTTP: "name a port http, or remove the routes",
    fragments.CROSS_NAMESPACE: "split to Services of the same namespace",
    fragments.SHADOWED: "merge the two objects, or remove one",
}


def fill_store(manifests: Iterable[Manifest]) -> Store:
    """The manifests as destination would hold them."""
    store = Store()
    store.apply_all((item.obj, False) for item in manifests)
    return store


def find_problems(manifests: list[Manifest], store: Store) -> Iterator[Finding]:
    """Everything that the compiler would put into the status of these objects."""
    outcomes = compile_store(store).outcomes
    by_ref = {ref: item for item in manifests for ref in (ref_of(item),) if ref is not None}
    homes = {namespace for namespace, _ in store.services}
    for ref, item in by_ref.items():
        outcome = outcomes.get(ref)
        for problem in outcome.problems if outcome is not None else ():
            if outcome is not None and _can_judge(problem, outcome, homes):
                yield _finding(item, problem)


def find_repeated(manifests: Iterable[Manifest]) -> Iterator[Finding]:
    """Objects that come twice: the one that is applied last overwrites the other."""
    seen: dict[tuple[str, str, str, str], Manifest] = {}
    for item in manifests:
        key = (item.group, item.kind, item.namespace, item.name)
        first = seen.setdefault(key, item)
        if first is not item and item.name:
            yield Finding(
                item.file,
                item.line,
                str(item),
                "metadata.name",
                "RepeatedObject",
                f"this object stands in {first.file}:{first.line} as well; the last one counts",
                "rename or remove one of the two",
                Level.WARNING,
            )


def ref_of(item: Manifest) -> Ref | None:
    resource = RESOURCES.get((item.group, item.kind))
    return Ref(resource, item.namespace, item.name) if resource is not None else None


def _can_judge(problem: Problem, outcome: Outcome, homes: Iterable[str]) -> bool:
    if problem.reason != fragments.NO_SUCH_SERVICE or not outcome.service:
        return True
    return outcome.service.partition("/")[0] in homes


def _finding(item: Manifest, problem: Problem) -> Finding:
    return Finding(
        item.file,
        item.line_of(problem.path),
        str(item),
        problem.path,
        problem.reason,
        problem.message,
        _REMEDIES.get(problem.reason, "correct it, or remove it"),
        _level(problem),
    )


def _level(problem: Problem) -> Level:
    if problem.severity is Severity.ERROR:
        return Level.ERROR
    if problem.reason in fragments.NOTES:
        return Level.NOTE
    return Level.WARNING if problem.reason in _WARNINGS else Level.ERROR
