"""What the user asked for: `deploy`, `deploy/web`, `po a b`, `all` -> selections. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that stat can show: `resource` as mesh.kube names it, `short` as rows print it."""

    name: str
    short: str
    resource: str
    aliases: tuple[str, ...]
    namespaced: bool = True


KINDS: Final = (
    Kind("namespace", "ns", "namespaces", ("namespaces",), namespaced=False),
    Kind("deployment", "deploy", "deployments.apps", ("deployments", "deployments.apps")),
    Kind("statefulset", "sts", "statefulsets.apps", ("statefulsets",)),
    Kind("daemonset", "ds", "daemonsets.apps", ("daemonsets",)),
    Kind("replicaset", "rs", "replicasets.apps", ("replicasets",)),
    Kind("job", "job", "jobs.batch", ("jobs",)),
    Kind("cronjob", "cj", "cronjobs.batch", ("cronjobs",)),
    Kind("pod", "po", "pods", ("pods",)),
    Kind("service", "svc", "services", ("services",)),
    Kind("trafficsplit", "ts", "trafficsplits.split.smi-spec.io", ("trafficsplits",)),
)
_BY_WORD: Final = {word: kind for kind in KINDS for word in (kind.name, kind.short, *kind.aliases)}


@dataclass(frozen=True, slots=True)
class Selection:
    """One kind and the names wanted of it; no names: all of them."""

    kind: Kind
    names: tuple[str, ...] = ()


def parse_resources(words: Sequence[str]) -> list[Selection]:
    """The selections that TYPE, TYPE/NAME, TYPE NAME... and `all` mean, in order of mention.

    No word at all means `deploy`. Raises click.UsageError.
    """
    if not words:
        words = ("deploy",)
    if "all" in words:
        if len(words) > 1:
            raise click.UsageError('expected "all" alone, got more words beside it')
        return [Selection(kind) for kind in KINDS if kind.namespaced]
    if any("/" in word for word in words):
        return _merged([_parse_slashed(word) for word in words])
    head, *names = words
    kinds = [_kind_of(word) for word in head.split(",")]
    return [Selection(kind, tuple(names)) for kind in kinds]


def _parse_slashed(word: str) -> Selection:
    kind, slash, name = word.partition("/")
    if not slash:
        raise click.UsageError(
            f'expected TYPE/NAME like the words beside it, got "{word}"; for example deploy/web'
        )
    if not name or "/" in name:
        raise click.UsageError(f'expected TYPE/NAME such as deploy/web, got "{word}"')
    return Selection(_kind_of(kind), (name,))


def _kind_of(word: str) -> Kind:
    kind = _BY_WORD.get(word.lower())
    if kind is None:
        known = ", ".join(f"{kind.short} ({kind.name})" for kind in KINDS)
        raise click.UsageError(f'unknown type "{word}"; expected one of {known}, or all')
    return kind


def _merged(selections: list[Selection]) -> list[Selection]:
    names: dict[Kind, list[str]] = {}
    for selection in selections:
        names.setdefault(selection.kind, []).extend(selection.names)
    return [Selection(kind, tuple(found)) for kind, found in names.items()]
