"""What one object shows by itself, before anybody knows the Services around it; pure.

The dialects' own readers judge, as they do in destination, so that `kubectl apply` says what
the status will say. References are not judged: what is not there may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from destination.fragments import RejectedFragment
from destination.store import read_object
from mesh.core.model import Severity


@dataclass(frozen=True, slots=True)
class Judged:
    """Texts with the path of their field. `is_rejected`: nothing of its content can take effect;
    a name alone that means no Service of ours may mean one to somebody else."""

    texts: tuple[str, ...] = ()
    is_rejected: bool = False


def judge_alone(obj: Mapping[str, Any], cluster_domain: str) -> Judged:
    """Everything that is wrong with one object. Kinds that we do not know are fine."""
    fragment = read_object(dict(obj), cluster_domain)
    if fragment is None:
        return Judged()
    texts = tuple(
        f"{problem.path}: {problem.message}" if problem.path else problem.message
        for problem in fragment.problems
    )
    unread = isinstance(fragment, RejectedFragment) and any(
        problem.severity is Severity.ERROR and not problem.path.startswith("metadata")
        for problem in fragment.problems
    )
    return Judged(texts, unread)
