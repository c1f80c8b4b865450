"""One case -> its answer: of manifests, or of a cluster and the client's own proxy in it.

A client of the API is imported only where a cluster is asked: files need none, and a terminal
waits for imports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mesh.core.errors import MeshError
from mesh.core.model import View
from mesh.explain.bypass import find_bypass, with_mode
from mesh.explain.decide import Decision, decide
from mesh.explain.live import question_for, view_of
from mesh.explain.proxies import ask
from mesh.explain.question import Asker, Question, find_asker
from mesh.explain.world import World, compile_cluster, compile_files
from mesh.lint.files import read_files

if TYPE_CHECKING:
    from mesh.kube.cli_options import ClusterChoice


@dataclass(frozen=True, slots=True)
class Case:
    """A request, who sends it, and which share of a split it draws (None: all are shown)."""

    question: Question
    workload: str
    namespace: str | None
    draw: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a request. `source` says in one line who decided."""

    decision: Decision
    source: str
    bypass: str  # why the request does not pass the client's proxy, "" where it does
    expected: Decision  # by the objects as they are now
    told: dict[str, Any] | None = None  # by the client's proxy, where it was asked
    notes: tuple[str, ...] = ()  # what else a person should know


@dataclass(frozen=True, slots=True)
class _Replay:
    """A case decided by the objects of a world."""

    world: World
    asker: Asker
    decision: Decision
    bypass: str

    def answer(self) -> Answer:
        notes = tuple(f"{one.file}:{one.line}: {one.message}" for one in self.world.faults)
        return Answer(self.decision, self.world.source, self.bypass, self.decision, notes=notes)


def answer_from_files(paths: Sequence[str], case: Case, mesh_namespace: str) -> Answer:
    """By the documents that matter, or where they hold no answer, by all. Raises MeshError."""
    files = read_files(paths)
    home = case.namespace or "default"
    names = case.question.names(case.workload)
    while True:
        try:
            world = compile_files(files, namespace=home, mesh_namespace=mesh_namespace, names=names)
            found = _replay(world, case)
            if world.is_whole or found.decision.where == "service":
                return found.answer()
        except MeshError:
            if not names:
                raise
        names = ()


def answer_from_cluster(choice: ClusterChoice, case: Case) -> Answer:
    """By the client's own proxy and its view in force, or with a note that says why it was not
    asked, by the objects. Raises MeshError."""
    import anyio

    from mesh.kube.client import KubeClient
    from mesh.kube.config import find_access

    access = find_access(choice.kubeconfig, choice.context)

    async def collect() -> World:
        async with KubeClient(access) as client:
            return await compile_cluster(client, choice.mesh_namespace)

    world = anyio.run(collect)
    if not case.namespace and not case.workload:
        case = replace(case, namespace=access.namespace or "default")
    found = _replay(world, case)
    answer = found.answer()
    if found.bypass or not found.decision.address:
        return answer
    try:
        return _by_proxy(choice, case, found, answer)
    except MeshError as error:
        return replace(answer, notes=(*answer.notes, f"the proxy was not asked: {error}"))


def _replay(world: World, case: Case) -> _Replay:
    home = case.namespace or (None if case.workload else world.home or None)
    asker = with_mode(world.annotations, find_asker(world.store, case.workload, home))
    decision = decide(world.store, world.snapshot, asker, case.question, case.draw)
    bypass = find_bypass(world.annotations, asker, case.question.port)
    return _Replay(world, asker, decision, bypass)


def _by_proxy(choice: ClusterChoice, case: Case, found: _Replay, answer: Answer) -> Answer:
    """Replayed with the view of the client's own proxy, beside what that says itself. Raises
    MeshError where it cannot be asked."""
    asker, question = found.asker, case.question
    pod = asker.pod.name if asker.pod is not None else ""
    query = question_for(question, found.decision.address, case.draw)
    answers = ask(choice, "explain", query, namespace=asker.namespace, pod=pod, most=1)
    if not answers:
        who = f"pod {asker.namespace}/{pod}" if pod else f"namespace {asker.namespace}"
        raise MeshError(f"no proxy of {who} is connected to destination")
    told = answers[0]
    view: View = view_of(told.body)
    store, snapshot = found.world.store, found.world.snapshot
    return replace(
        answer,
        decision=decide(store, snapshot, asker, question, case.draw, view),
        source=f"the proxy of {told.namespace}/{told.pod}, its view in force "
        f"(version {view.version})",
        told=told.body,
    )
