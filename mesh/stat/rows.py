"""Objects of the cluster + reports -> rows. Pure.

Workloads, pods and namespaces show their inbound side; services and splits what meshed
clients sent to them, so their latency includes the network and both proxies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mesh.core import labels
from mesh.core.names import split_authority
from mesh.core.report import Series, SeriesKey, WindowReport
from mesh.inject.workload import controller_of, find_workload
from mesh.kube.pods import (
    Object,
    is_finished,
    is_meshed,
    labels_of,
    name_of,
    namespace_of,
    phase_of,
)
from mesh.stat.figures import NOTHING, Figures, figures_of, part_of
from mesh.stat.selection import Selection


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `meshed` is (meshed, running) pods; the split fields belong to ts rows."""

    kind: str
    namespace: str
    name: str
    figures: Figures = NOTHING
    meshed: tuple[int, int] | None = None
    status: str = ""
    apex: str = ""
    leaf: str = ""
    weight: str = ""
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What rows are made of: objects by kind name (`deployment`), all pods, the reports."""

    objects: Mapping[str, Sequence[Object]]
    pods: Sequence[Object]
    reports: Sequence[WindowReport]


def newest_reports(answers: Iterable[Iterable[WindowReport]]) -> list[WindowReport]:
    """The answers of several destination pods as one list.

    A proxy reports to one destination at a time. After it changed over, both know a part:
    parts of one incarnation that do not overlap are kept, of overlapping ones the newest.
    """
    kept: dict[tuple[str, str, str], list[WindowReport]] = defaultdict(list)
    for report in sorted((r for answer in answers for r in answer), key=lambda r: r.age):
        parts = kept[report.namespace, report.pod, report.incarnation]
        if all(report.ended <= newer.started for newer in parts):
            parts.append(report)
    return [report for parts in kept.values() for report in parts]


def rows_of(selection: Selection, cluster: Cluster, *, unmeshed: bool = False) -> list[Row]:
    """The rows of one selection, by namespace and name.

    Workloads without a meshed pod are left out unless `unmeshed` or asked for by name.
    """
    objects = [
        obj
        for obj in cluster.objects.get(selection.kind.name, ())
        if not selection.names or name_of(obj) in selection.names
    ]
    kind = selection.kind.name
    if kind == "service":
        rows = _service_rows(objects, cluster)
    elif kind == "trafficsplit":
        rows = _split_rows(objects, cluster.reports)
    else:
        show_all = unmeshed or bool(selection.names)
        rows = [
            row
            for row in _workload_rows(kind, objects, cluster)
            if show_all or (row.meshed is not None and row.meshed[0] > 0)
        ]
    return sorted(rows, key=lambda row: (row.namespace, row.name))


def _workload_rows(kind: str, objects: Sequence[Object], cluster: Cluster) -> list[Row]:
    key = _GROUPS.get(kind, _by_workload(kind))
    pods: dict[tuple[str, str], list[Object]] = defaultdict(list)
    groups: dict[tuple[str, str], tuple[str, str]] = {}  # pod -> the row it belongs to
    for pod in cluster.pods:
        group = key(pod)
        if group is not None and not is_finished(pod):
            pods[group].append(pod)
            groups[namespace_of(pod), name_of(pod)] = group
    reports: dict[tuple[str, str], list[WindowReport]] = defaultdict(list)
    for report in cluster.reports:
        found = groups.get((report.namespace, report.pod)) or _gone(kind, report)
        if found is not None:
            reports[found].append(report)
    return [_workload_row(kind, obj, pods, reports) for obj in objects if _shown(kind, obj)]


def _shown(kind: str, obj: Object) -> bool:
    """Not a pod that is over, nor a ReplicaSet that stands in the row of its Deployment."""
    if kind == "replicaset":
        return controller_of(obj) is None
    return kind != "pod" or not is_finished(obj)


def _workload_row(
    kind: str,
    obj: Object,
    pods: Mapping[tuple[str, str], list[Object]],
    reports: Mapping[tuple[str, str], list[WindowReport]],
) -> Row:
    name, namespace = name_of(obj), namespace_of(obj)
    group = ("", name) if kind == "namespace" else (namespace, name)
    members = pods.get(group, [])
    return Row(
        kind=kind,
        namespace=namespace,
        name=name,
        figures=_figures(reports.get(group, ()), _is_inbound),
        meshed=(sum(is_meshed(pod) for pod in members), len(members)),
        status=phase_of(obj) if kind == "pod" else "",
    )


def _is_inbound(key: SeriesKey) -> bool:
    """What came into a pod, without what the kubelet asked: nobody would find it in his load."""
    return key.direction == "inbound" and key.route != labels.PROBE_ROUTE


def _by_workload(kind: str) -> Callable[[Object], tuple[str, str] | None]:
    def group(pod: Object) -> tuple[str, str] | None:
        owner = find_workload(pod)
        return (namespace_of(pod), owner.name) if owner.kind == kind else None

    return group


def _job_of(pod: Object) -> tuple[str, str] | None:
    owner = controller_of(pod)
    is_job = owner is not None and owner.get("kind") == "Job"
    return (namespace_of(pod), str(owner.get("name"))) if owner and is_job else None


_GROUPS: dict[str, Callable[[Object], tuple[str, str] | None]] = {
    "namespace": lambda pod: ("", namespace_of(pod)),
    "pod": lambda pod: (namespace_of(pod), name_of(pod)),
    "job": _job_of,
}


def _gone(kind: str, report: WindowReport) -> tuple[str, str] | None:
    """The row of a proxy whose pod is no longer there: its work in the window still counts."""
    if kind == "namespace":
        return "", report.namespace
    owner, _, name = report.workload.partition("/")
    return (report.namespace, name) if owner == kind and name else None


def _service_rows(services: Sequence[Object], cluster: Cluster) -> list[Row]:
    """Requests by the name that clients used; connections by the pods that the Service selects,
    since a connection of a proxy's pool serves whatever leads to its pod."""
    wanted = {(namespace_of(service), name_of(service)) for service in services}
    requests = _outbound_by(cluster.reports, lambda key: _service_of(key.apex), wanted)
    by_pod = _outbound_by(cluster.reports, _peer_of_connection, None)
    rows = []
    for service in services:
        found = dict(requests.get((namespace_of(service), name_of(service)), {}))
        for pod in _selected(service, cluster.pods):
            for index, (report, series) in by_pod.get(pod, {}).items():
                _, known = found.get(index, (report, []))
                found[index] = report, known + series
        figures = _figures_of_series(found)
        rows.append(Row("service", namespace_of(service), name_of(service), figures))
    return rows


def _peer_of_connection(key: SeriesKey) -> tuple[str, str] | None:
    return (key.peer_namespace, key.peer_pod) if key.kind == "tcp" and key.peer_pod else None


def _selected(service: Object, pods: Sequence[Object]) -> Iterator[tuple[str, str]]:
    selector = (service.get("spec") or {}).get("selector") or {}
    for pod in pods:
        if not selector or namespace_of(pod) != namespace_of(service):
            continue
        if all(labels_of(pod).get(key) == value for key, value in selector.items()):
            yield namespace_of(pod), name_of(pod)


def _split_rows(splits: Sequence[Object], reports: Sequence[WindowReport]) -> list[Row]:
    """Requests by leaf. A connection serves whatever leads to its pod, so bytes have no leaf."""
    rows = []
    for split in splits:
        spec = split.get("spec") or {}
        namespace, apex = namespace_of(split), str(spec.get("service") or "")
        root = (namespace, apex.split(".")[0])
        found = _outbound_by(
            reports,
            lambda key, root=root: (  # type: ignore[misc]
                _service_of(key.leaf) if _service_of(key.apex) == root else None
            ),
            None,
        )
        leaves = [
            Row(
                kind="trafficsplit",
                namespace=namespace,
                name=name_of(split),
                figures=replace(
                    _figures_of_series(
                        found.get((namespace, str(backend.get("service", "")).split(".")[0]), {})
                    ),
                    read_rate=None,
                    write_rate=None,
                ),
                apex=apex,
                leaf=str(backend.get("service", "")),
                weight=str(backend.get("weight", "")),
            )
            for backend in spec.get("backends") or spec.get("allocation") or ()
            if isinstance(backend, Mapping)
        ]
        total = sum(row.figures.requests for row in leaves)
        rows += [
            replace(row, share=row.figures.requests / total) if total else row for row in leaves
        ]
    return rows


_Found = dict[tuple[str, str], dict[int, tuple[WindowReport, list[Series]]]]


def _outbound_by(
    reports: Sequence[WindowReport],
    group: Callable[[SeriesKey], tuple[str, str] | None],
    wanted: set[tuple[str, str]] | None,
) -> _Found:
    """Outbound series of all clients by what they addressed, still apart by report."""
    found: _Found = defaultdict(dict)
    for index, report in enumerate(reports):
        for series in report.series:
            if series.key.direction != "outbound":
                continue
            name = group(series.key)
            if name is not None and (wanted is None or name in wanted):
                found[name].setdefault(index, (report, []))[1].append(series)
    return found


def _service_of(authority: str) -> tuple[str, str] | None:
    """(namespace, name) of `name.namespace.svc.domain:port`, None of anything else."""
    host, _ = split_authority(authority)
    parts = host.split(".")
    return (parts[1], parts[0]) if len(parts) > 3 and parts[2] == "svc" else None


def _figures_of_series(found: Mapping[int, tuple[WindowReport, list[Series]]]) -> Figures:
    return figures_of(part_of(report, series) for report, series in found.values())


def _figures(reports: Iterable[WindowReport], wanted: Callable[[SeriesKey], bool]) -> Figures:
    return figures_of(
        part_of(report, [series for series in report.series if wanted(series.key)])
        for report in reports
    )
