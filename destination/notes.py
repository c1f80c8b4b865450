"""Annotations and fields of Services: what means nothing here is said so, never dropped; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from destination.facts import ServiceFacts
from destination.fragments import INVALID_PORTS, NOT_SUPPORTED, UNKNOWN_FIELD, Outcome
from mesh.core import labels
from mesh.core.model import Problem, Source, Verdict

_OPAQUE: Final = labels.ANNOTATION_BY_NAME["mesh/opaque-ports"]
_ON_SERVICES: Final = (_OPAQUE.name, *_OPAQUE.aliases)
_WRITTEN_BY_US: Final = frozenset(
    (labels.A_PROXY_VERSION, labels.A_CREATED_BY, labels.A_TRUST_HASH, labels.A_REWRITTEN_PROBES)
)


def judge_service(service: ServiceFacts, known: Iterable[Problem] = ()) -> Outcome | None:
    """The outcome of what a Service says; None when all is well, as it mostly is.

    `known` is what is wrong with those of retries, timeouts and failures.
    """
    problems = (*known, *_problems(service))
    name = f"{service.namespace}/{service.name}"
    return Outcome(Verdict.PARTIAL, problems, name) if problems else None


def _problems(service: ServiceFacts) -> Iterator[Problem]:
    source = Source("Service", service.namespace, service.name)
    if service.by_client and not service.headless and not service.external_name:
        message = (
            "meshed clients are balanced by request, whatever their address; mesh/balancer "
            "with hash-header or hash-cookie keeps those of one key together"
        )
        yield Problem(source, "spec.sessionAffinity", NOT_SUPPORTED, message)
    for name in sorted(service.annotations):
        path = f"metadata.annotations[{name}]"
        if name in _ON_SERVICES:
            bad = service.opaque.bad if service.opaque is not None else ()
            if bad:
                message = f"expected ports, ranges or port names, got {', '.join(bad)}"
                yield Problem(source, path, INVALID_PORTS, message)
        elif name in labels.ROUTE_ANNOTATION_BY_NAME or name.startswith(labels.ROUTE_PREFIXES):
            continue
        elif name in labels.ANNOTATION_BY_NAME:
            message = "acts on pods and namespaces, not on a Service"
            yield Problem(source, path, NOT_SUPPORTED, message)
        elif name.startswith(labels.OUR_PREFIXES) and name not in _WRITTEN_BY_US:
            known_names = (*_ON_SERVICES, *labels.ROUTE_ANNOTATION_BY_NAME)
            near = difflib.get_close_matches(name, known_names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Problem(source, path, UNKNOWN_FIELD, f"no such annotation{hint}")
