"""The small parts: patches, YAML, admission reviews, doubts, events."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import PeerError
from mesh.inject.admission import MAX_WARNINGS, answer, clip_warnings, parse_review
from mesh.inject.documents import split_documents
from mesh.inject.events import News, event_name, make_event
from mesh.inject.jsonpatch import PatchBuilder, apply_patch
from mesh.inject.validate import Validation, validate
from mesh.inject.view import parse_version
from mesh.inject.yamltext import dump_document, load_one

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_missing_and_null_parents_are_made_on_the_way() -> None:
    patch = PatchBuilder({"a": None})

    patch.add(("a", "b/c", "d~e"), 1)
    patch.add(("list", 0, "x"), 2)

    assert patch.document == {"a": {"b/c": {"d~e": 1}}, "list": [{"x": 2}]}
    assert patch.ops[0] == {"op": "add", "path": "/a", "value": {"b/c": {"d~e": 1}}}
    assert apply_patch({"a": None}, patch.ops) == patch.document


@pytest.mark.parametrize(
    "op",
    [
        {"op": "remove", "path": "/no"},
        {"op": "replace", "path": "/list/1", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/no/where", "value": 1},
    ],
)
def test_a_patch_for_a_place_that_is_not_there_is_an_error(op: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="patch"):
        apply_patch({"list": [1]}, [op])


@given(JSON)
def test_what_is_dumped_reads_back_the_same(data: Any) -> None:
    assert load_one(dump_document(data)) == data


AMBIGUOUS = ["1e3", "0x1f", "1_000", "yes", "off", "~", "2024-01-31", "1:30", ".5", "-", "=", "NaN"]


@pytest.mark.parametrize("text", ["", *AMBIGUOUS])
def test_text_that_a_reader_could_take_for_something_else_is_quoted(text: str) -> None:
    printed = dump_document({"key": text})

    assert printed.partition(": ")[2][0] in "\"'"
    assert yaml.safe_load(printed) == {"key": text}


def test_several_lines_are_a_block() -> None:
    assert dump_document({"pem": "a\nb\n"}) == "pem: |\n  a\n  b\n"


def test_timestamps_stay_text() -> None:
    assert load_one("when: 2024-01-31") == {"when": "2024-01-31"}


@given(st.text(alphabet="-a \n:", max_size=40))
def test_the_documents_of_a_text_join_to_it(text: str) -> None:
    assert "".join(piece for piece, _ in split_documents(text)) == text


def test_a_review_is_read_and_answered() -> None:
    request = {"uid": "u", "namespace": "n", "object": {"kind": "Pod"}, "dryRun": True}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}

    review = parse_review(json.dumps(body).encode())
    reply = answer(review.uid, patch=[{"op": "remove", "path": "/a"}], warnings=["careful"])

    assert (review.kind, review.namespace, review.dry_run) == ("Pod", "n", True)
    response = reply["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u", True, "JSONPatch")
    assert json.loads(base64.b64decode(response["patch"])) == [{"op": "remove", "path": "/a"}]
    assert response["warnings"] == ["mesh: careful"]


@given(st.one_of(st.binary(max_size=60), JSON.map(lambda data: json.dumps(data).encode())))
def test_anything_else_is_no_review_and_no_crash(body: bytes) -> None:
    with pytest.raises(PeerError):
        parse_review(body)


@given(JSON)
def test_an_odd_request_is_read_or_refused(request: Any) -> None:
    body = {"apiVersion": "admission.k8s.io/v1", "request": request}
    with contextlib.suppress(PeerError):
        parse_review(json.dumps(body).encode())


def test_warnings_are_few_short_single_lines() -> None:
    lines = clip_warnings([f"{i} " + "x" * 400 + "\ny" for i in range(40)])

    assert len(lines) == MAX_WARNINGS
    assert all(len(line) <= 250 and "\n" not in line for line in lines)
    assert lines[-1] == "mesh: 25 more warnings"


SPLIT = ("split.smi-spec.io/v1alpha4", "TrafficSplit")
PROFILE = ("linkerd.io/v1alpha2", "ServiceProfile")
ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")
PARENT = "parentRefs: [{group: '', kind: Service, name: web}]"


def routing(kind: tuple[str, str], spec: Any, name: str = "web", **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": kind[0],
        "kind": kind[1],
        "metadata": {"name": name, "namespace": "shop", **meta},
        "spec": spec,
    }


def written(kind: tuple[str, str], spec: str, **options: Any) -> dict[str, Any]:
    return routing(kind, load_one(spec), **options)


WARNED = [
    (SPLIT, "{service: a, allocation: [{service: b, weight: 0}]}", "spec.allocation: all weights"),
    (PROFILE, "{routes: [{condition: {method: GET}}]}", "spec.routes[0].name: expected a name"),
    (
        PROFILE,
        "{routes: [{name: r, condition: {method: GET}, timeout: x}]}",
        "spec.routes[0].timeout",
    ),
    (
        ROUTE,
        f"{{{PARENT}, rules: [{{filters: [{{type: Odd}}]}}]}}",
        "spec.rules[0].filters[0].type",
    ),
    (ROUTE, f"{{{PARENT}, hostnames: [a], rules: [{{}}]}}", "spec.hostnames: means nothing"),
]
REFUSED = [
    (SPLIT, "", "spec.service: expected the name of a Service"),
    (SPLIT, "service: a", "spec.backends: expected at least one service"),
    (SPLIT, "{service: a, backends: [{service: b, weight: -1}]}", "spec.backends[0].weight"),
    (PROFILE, "{routes: [{name: r, condition: {pathRegex: (}}]}", "spec.routes[0].condition"),
    (
        ROUTE,
        f"{{{PARENT}, rules: [{{matches: [{{path: {{type: Odd}}}}]}}]}}",
        "spec.rules[0].matches",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "doubt"), WARNED)
def test_what_takes_effect_in_part_is_stored_with_a_warning(
    kind: tuple[str, str], spec: str, doubt: str
) -> None:
    found = validate(written(kind, spec))

    assert found.refusal == ""
    assert any(warning.startswith(doubt) for warning in found.warnings)


@pytest.mark.parametrize(("kind", "spec", "doubt"), REFUSED)
def test_what_cannot_be_compiled_at_all_is_refused(
    kind: tuple[str, str], spec: str, doubt: str
) -> None:
    found = validate(written(kind, spec))

    assert found.refusal.startswith(doubt)


def test_an_object_that_stands_there_may_change_its_labels_and_go() -> None:
    old = written(SPLIT, "service: a")
    labelled = written(SPLIT, "service: a", labels={"a": "b"})
    leaving = written(SPLIT, "service: b", deletionTimestamp="2026-01-01T00:00:00Z")

    assert validate(labelled, old).refusal == ""
    assert validate(leaving, old).refusal == ""
    assert validate(written(SPLIT, "service: b"), old).refusal != ""


def test_a_profile_whose_name_means_no_service_is_only_warned_about() -> None:
    found = validate(written(PROFILE, "{routes: []}", name="api.example.com"))

    assert found.refusal == ""
    assert found.warnings[0].startswith("metadata.name")


@given(st.sampled_from([SPLIT, PROFILE, ROUTE, ("v1", "Other")]), JSON)
def test_no_object_is_too_odd_to_be_looked_at(kind: tuple[str, str], spec: Any) -> None:
    assert isinstance(validate(routing(kind, spec)).warnings, tuple)


def test_a_sound_split_raises_no_doubt() -> None:
    spec = "{service: web, backends: [{service: v1, weight: 500m}, {service: v2, weight: 0}]}"

    assert validate(written(SPLIT, spec)) == Validation()


def test_a_split_with_matches_takes_effect_and_raises_no_doubt() -> None:
    matches = "matches: [{kind: HTTPRouteGroup, name: canary}]"
    spec = f"{{service: web, backends: [{{service: v1, weight: 1}}], {matches}}}"

    assert validate(written(SPLIT, spec)) == Validation()


def test_a_refusal_is_an_answer_with_a_reason() -> None:
    response = answer("7", refusal="why not")["response"]

    assert (response["uid"], response["allowed"]) == ("7", False)
    assert response["status"]["message"] == "mesh: why not"


def test_the_same_news_about_the_same_object_is_one_event() -> None:
    involved = {"kind": "Deployment", "name": "web", "uid": "u", "namespace": "shop"}
    news = News({}, "shop", "InjectionSkipped", "because")

    name = event_name(involved, news)

    assert name == event_name(involved, News({"other": "pod"}, "shop", news.reason, news.message))
    assert name != event_name(involved, News({}, "shop", news.reason, "why else"))
    event = make_event(name, involved, news, "mesh-inject-1", 0.0, 3)
    assert (event["type"], event["count"]) == ("Warning", 3)
    assert event["lastTimestamp"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "version"), [("v1.29.3-gke.1", (1, 29)), ("1.34", (1, 34)), ("v1.9.0+k3s", (1, 9))]
)
def test_versions_of_distributions_are_read(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


def test_another_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a version"):
        parse_version("devel")
