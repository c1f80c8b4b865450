"""Of thousands of documents only those are read that matter, and the answer is the same."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from mesh.explain.commands import explain
from mesh.explain.decide import Decision, decide
from mesh.explain.pertinent import FEW, read_pertinent
from mesh.explain.question import find_asker, parse_question
from mesh.explain.world import compile_files
from tests.explain.test_offline import methods, paths, workload

ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "r", "namespace": "shop"},
}


def filler(count: int = 2 * FEW) -> list[dict[str, Any]]:
    """Services of their own, which name nothing else."""
    return [obj for at in range(count // 2) for obj in workload(f"other-{at}x")]


def text_of(objects: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(objects)


FILLER = text_of(filler(FEW))


def answer(text: str, url: str, method: str, names: tuple[str, ...]) -> Decision:
    files = [("all.yaml", text), ("others.yaml", FILLER)]
    world = compile_files(files, namespace="default", mesh_namespace="mesh", names=names)
    assert world.is_whole == (not names)
    asker = find_asker(world.store, "deploy/client", None)
    return decide(world.store, world.snapshot, asker, parse_question(method, url, ()), None)


def told(decision: Decision) -> Any:
    """What does not hang on the addresses that are made up for files."""
    leaves = [
        replace(
            leaf,
            endpoints=tuple(structs.replace(e, address="", pod=e.pod) for e in leaf.endpoints),
        )
        for leaf in decision.leaves
    ]
    return (
        decision.where, decision.protocol, decision.rules, decision.owner, decision.profile,
        decision.route, leaves, decision.answer, decision.policy, decision.budget,
        decision.filters, decision.involved, decision.notes, decision.classes,
    )  # fmt: skip


backends = st.lists(
    st.tuples(st.sampled_from(["web", "web-v1", "web-v2", "api", "gone"]), st.integers(0, 5)),
    min_size=1,
    max_size=3,
)
rules = st.lists(st.tuples(st.sampled_from(["/", "/items", "/orders"]), backends), max_size=3)


@settings(max_examples=30, deadline=None)
@given(rules, backends, st.booleans(), st.booleans(), methods, paths)
def test_the_answer_is_that_of_all_documents(
    rules: list[Any], split: list[Any], has_route: bool, has_split: bool, method: str, path: str
) -> None:
    names = ("web", "web-v1", "web-v2", "api", "client")
    objects = [obj for name in names for obj in workload(name)]
    if has_route:
        spec = {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "rules": [
                {
                    "matches": [{"path": {"value": prefix}}],
                    "backendRefs": [{"name": n, "port": 80, "weight": w} for n, w in targets],
                }
                for prefix, targets in rules
            ],
        }
        objects.append(ROUTE | {"spec": spec})
    if has_split:
        spec = {"service": "web", "backends": [{"service": n, "weight": w} for n, w in split]}
        meta = {"name": "s", "namespace": "shop"}
        objects.append(
            {
                "apiVersion": "split.smi-spec.io/v1alpha4",
                "kind": "TrafficSplit",
                "metadata": meta,
                "spec": spec,
            }
        )
    url, text = f"http://web{path}", text_of(objects)

    assert told(answer(text, url, method, ("web", "client"))) == told(answer(text, url, method, ()))


def test_few_documents_lists_and_flow_style_are_simply_read() -> None:
    listed = text_of([{"apiVersion": "v1", "kind": "List", "items": filler()}, *filler()])

    assert read_pertinent([("a.yaml", text_of(workload("web")))], ["web"]) is None
    assert read_pertinent([("a.yaml", listed)], ["web"]) is None
    assert read_pertinent([("a.yaml", text_of(filler()) + "---\n# x\n{kind: A}")], ["web"]) is None


@pytest.mark.parametrize("homes", [["shop"], ["shop", "front"]])
def test_a_client_that_nobody_names_is_where_it_would_be(tmp_path: Path, homes: list[str]) -> None:
    objects = filler()
    consumer = ROUTE | {"metadata": {"name": "c", "namespace": "elsewhere"}}
    consumer["spec"] = {"parentRefs": [{"group": "", "kind": "Service", "name": "unknown"}]}
    for home in homes:
        objects += [obj | {"metadata": {"name": "web", "namespace": home}}
                    for obj in workload("web")]  # fmt: skip
    (tmp_path / "a.yaml").write_text(text_of([*objects, consumer]))

    said = CliRunner().invoke(explain, ["-f", str(tmp_path), f"http://web.{homes[0]}/"]).output

    home = homes[0] if len(homes) == 1 else "default"
    assert f"namespace {home}" in said
    assert "all that name them in" in said


def test_what_is_not_there_is_asked_of_all_so_that_hints_are_good(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text_of([*filler(), *workload("catalogue")]))

    result = CliRunner().invoke(explain, ["-f", str(tmp_path), "http://catalog/"])

    assert result.exit_code == 1
    assert "did you mean catalogue?" in str(result.exception)


ONE = text_of(
    [
        *workload("sNUMBER"),
        ROUTE
        | {
            "metadata": {"name": "rNUMBER", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "sNUMBER"}],
                "rules": [{"backendRefs": [{"name": "sNUMBER", "port": 80}]}],
            },
        },
    ]
)


def test_an_answer_of_thousands_of_objects_takes_less_than_300_ms_of_work(tmp_path: Path) -> None:
    for at in range(40):
        pieces = [ONE.replace("NUMBER", str(at * 40 + n)) for n in range(40)]
        (tmp_path / f"{at}.yaml").write_text("---\n".join(pieces))
    command = ["-f", str(tmp_path), "--from", "deploy/s7", "http://s5/"]
    begun = time.process_time()

    result = CliRunner().invoke(explain, command)

    took = time.process_time() - begun
    assert result.exit_code == 0, result.output
    assert "in 4800 documents" in result.output
    assert "HTTPRoute/shop/r5" in result.output
    assert took < 0.3, took
