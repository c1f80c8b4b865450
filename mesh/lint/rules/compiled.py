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
from destination.fragments import Outcome, Ref, RouteFragment
from destination.snapshot import Snapshot
from destination.store import RESOURCE_OF, Store
from mesh.core.model import Problem, Severity
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.source import Manifest

_WARNINGS: Final = frozenset(
    (
        fragments.NOT_SUPPORTED,
        fragments.SHADOWED,
        fragments.EXTERNAL_SERVICE,
        fragments.NOT_HTTP,
        fragments.OVERRULED,
        fragments.CONFLICTED,
        fragments.UNSUPPORTED_FILTER,
    )
)
# Reasons that say that something is not there.
_MISSING: Final = frozenset(
    (
        fragments.NO_SUCH_SERVICE,
        fragments.BACKEND_NOT_FOUND,
        fragments.NO_MATCHING_PARENT,
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
    fragments.OVERRULED: "keep one of the two",
    fragments.CONFLICTED: "keep one kind of route on this port",
    fragments.UNREACHABLE: "make its matches more specific, or remove it",
    fragments.NO_SUCH_GROUP: "correct the name, or add the HTTPRouteGroup",
    fragments.INVALID_BUDGET: (
        "write a ratio up to 1000, 0 or more retries a second, and a ttl from 1s to 60s"
    ),
    fragments.INVALID_VALUE: "write what is expected",
    fragments.IGNORED_FIELD: "remove it",
    fragments.INVALID_FILTER: "correct the filter: until then its requests are answered with 500",
    fragments.UNSUPPORTED_FILTER: "remove it: until then its requests are answered with 500",
    fragments.NO_MATCHING_PARENT: "name a Service that has a ClusterIP, and one of its ports",
    fragments.BACKEND_NOT_FOUND: "correct the name or the port, or add the Service",
    fragments.INVALID_KIND: "name a Service",
    fragments.REF_NOT_PERMITTED: "add a ReferenceGrant in the namespace of the Service",
}


def fill_store(manifests: Iterable[Manifest]) -> Store:
    """The manifests as destination would hold them."""
    store = Store()
    store.apply_all((item.obj, False) for item in manifests)
    return store


def compile_manifests(store: Store) -> Snapshot:
    """What destination would make of them."""
    return compile_store(store)


def find_problems(manifests: list[Manifest], store: Store, snapshot: Snapshot) -> Iterator[Finding]:
    """Everything that the compiler would put into the status of these objects."""
    outcomes = snapshot.outcomes
    by_ref = {ref: item for item in manifests for ref in (ref_of(item),) if ref is not None}
    homes = {namespace for namespace, _ in store.services}
    for ref, item in by_ref.items():
        outcome = outcomes.get(ref)
        for problem in outcome.problems if outcome is not None else ():
            if outcome is not None and _can_judge(store, ref, problem, outcome, homes):
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
    resource = RESOURCE_OF.get((item.group, item.kind))
    return Ref(resource, item.namespace, item.name) if resource is not None else None


def _can_judge(
    store: Store, ref: Ref, problem: Problem, outcome: Outcome, homes: Iterable[str]
) -> bool:
    if problem.reason not in _MISSING:
        return True
    fragment = store.fragments.get(ref)
    if isinstance(fragment, RouteFragment):
        return _namespace_at(fragment, problem.path) in homes
    return not outcome.service or outcome.service.partition("/")[0] in homes


def _namespace_at(route: RouteFragment, path: str) -> str:
    """The namespace of the Service that a field of a route refers to."""
    for parent in route.parents:
        if path == f"spec.parentRefs[{parent.index}]":
            return parent.service[0]
    for rule in route.rules:
        for ref in (*rule.backends, *rule.mirrors):
            if ref.path == path:
                return ref.service[0]
    return route.ref.namespace


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
