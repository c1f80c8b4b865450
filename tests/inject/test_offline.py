"""`mesh inject` and `mesh uninject` on manifests as people keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import labels
from mesh.inject.commands import inject, uninject
from mesh.inject.config import InjectConfig, dump_config
from mesh.inject.offline import Manual, inject_text, uninject_text
from mesh.inject.patch import Cluster
from tests.inject.pods import BUNDLE
from tests.inject.test_properties import PODS, settled
from tests.support.golden import check_golden

SHOP = Path(__file__).parents[2] / "deploy" / "examples" / "shop.yaml"
MANUAL = Manual(InjectConfig(), BUNDLE, Cluster(native=True))

MIXED = """\
# the shop
apiVersion: v1
kind: Service
metadata: {name: web}   # stays as it is
---
apiVersion: apps/v1
kind: Deployment   # this comment goes
metadata:
  name: web
spec:
  template:
    metadata:
      labels: {app: web, build: "1e3"}
    spec:
      containers:
      - name: web
        image: 'web:1'
        env: [{name: SINCE, value: "2024-01-31"}, {name: MODE, value: '0644'}]
        readinessProbe: {tcpSocket: {port: 80}}
---
apiVersion: v1
kind: Namespace
metadata:
  name: shop
"""


def outcomes(text: str, manual: Manual | None = None) -> dict[str, str]:
    return {
        report.name: report.outcome for report in inject_text(text, source="-", manual=manual)[1]
    }


def workload(kind: str, api: str = "apps/v1", **spec: Any) -> str:
    pod = {"spec": {"containers": [{"name": "web"}], **spec}}
    inner: dict[str, Any] = {"template": pod}
    if kind == "CronJob":
        inner = {"jobTemplate": {"spec": inner}}
    if kind == "Pod":
        inner = pod["spec"]
    document = {"apiVersion": api, "kind": kind, "metadata": {"name": "web"}, "spec": inner}
    return yaml.safe_dump(document)


def test_only_workloads_and_namespaces_change_and_the_rest_keeps_its_bytes() -> None:
    changed, reports = inject_text(MIXED, source="-")

    service, deployment, namespace = changed.split("---\n")
    assert service == MIXED.split("---\n")[0]
    assert yaml.safe_load(deployment)["spec"]["template"]["metadata"]["annotations"] == {
        labels.A_INJECT: "enabled"
    }
    assert yaml.safe_load(namespace)["metadata"]["annotations"] == {labels.A_INJECT: "enabled"}
    assert [(r.name, r.outcome) for r in reports] == [
        ('service "web"', "skipped"),
        ('deployment "web"', "annotated"),
        ('namespace "shop"', "annotated"),
    ]


def test_texts_that_look_like_numbers_keep_their_quotes() -> None:
    changed, _ = inject_text(MIXED, source="-")

    for quoted in ('build: "1e3"', 'value: "2024-01-31"', "value: '0644'", "image: 'web:1'"):
        assert quoted in changed


def test_a_whole_sidecar_is_written_with_manual() -> None:
    check_golden("inject/manual.yaml", inject_text(MIXED, source="-", manual=MANUAL)[0])


@pytest.mark.parametrize(
    ("kind", "api"),
    [
        ("Deployment", "apps/v1"),
        ("ReplicaSet", "apps/v1"),
        ("StatefulSet", "apps/v1"),
        ("DaemonSet", "apps/v1"),
        ("Job", "batch/v1"),
        ("CronJob", "batch/v1"),
        ("Pod", "v1"),
        ("ReplicationController", "v1"),
    ],
)
@pytest.mark.parametrize("manual", [None, MANUAL])
def test_uninject_of_inject_gives_the_input_back(
    kind: str, api: str, manual: Manual | None
) -> None:
    before = workload(kind, api)

    changed, reports = inject_text(before, source="-", manual=manual)
    back, _ = uninject_text(changed, source="-")

    assert reports[0].outcome == ("injected" if manual else "annotated")
    assert changed != before
    assert yaml.safe_load(back) == yaml.safe_load(before)
    assert inject_text(changed, source="-", manual=manual)[0] == changed  # and twice is once


@settings(max_examples=60, deadline=None)
@given(PODS, st.sampled_from([None, MANUAL]))
def test_uninject_of_inject_gives_any_pod_back(pod: dict[str, Any], manual: Manual | None) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", **pod})
    plain, _ = uninject_text(text, source="-")  # without switches of its own

    changed, _ = inject_text(plain, source="-", manual=manual)
    back, _ = uninject_text(changed, source="-")

    assert settled(json.loads(back)) == settled(json.loads(plain))


def test_a_kind_of_another_group_is_not_ours() -> None:
    assert outcomes(workload("Job", "example.org/v1")) == {'job "web"': "skipped"}


def test_a_list_is_looked_into() -> None:
    items = [yaml.safe_load(workload("Deployment")), {"apiVersion": "v1", "kind": "Secret"}]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})

    changed = yaml.safe_load(inject_text(text, source="-")[0])

    assert "annotations" in changed["items"][0]["spec"]["template"]["metadata"]
    assert changed["items"][1] == items[1]


def test_what_is_no_object_is_named_and_passed_on_beside_the_others() -> None:
    deployment = yaml.safe_load(workload("Deployment"))
    listed = {"apiVersion": "v1", "kind": "List", "items": [3, deployment, None, "web"]}
    text = f"# nothing\n---\n{yaml.safe_dump(listed)}---\n- 5\n"

    changed, reports = inject_text(text, source="a.yaml")

    assert [(r.outcome, *r.messages) for r in reports] == [
        ("failed", "a.yaml line 2: items.0: expected an object, got 3"),
        ("annotated",),
        ("failed", "a.yaml line 2: items.2: expected an object, got None"),
        ("failed", "a.yaml line 2: items.3: expected an object, got 'web'"),
        ("failed", "a.yaml line 18: document 3: expected an object, got [5]"),
    ]
    again, sequence = yaml.safe_load_all(changed)
    assert (again["items"][0], again["items"][2:], sequence) == (3, [None, "web"], [5])
    assert uninject_text(changed, source="a.yaml")[1][0].failed


def test_json_stays_json() -> None:
    document = yaml.safe_load(workload("Deployment"))

    changed, _ = inject_text(json.dumps(document), source="-")

    template = json.loads(changed)["spec"]["template"]
    assert template["metadata"]["annotations"] == {labels.A_INJECT: "enabled"}


def test_one_bad_document_never_swallows_the_others() -> None:
    bad = "---\na: b: c\n"
    text = MIXED + bad + "---\n" + workload("Job", "batch/v1")

    changed, reports = inject_text(text, source="shop.yaml")

    failed = [report for report in reports if report.failed]
    assert [report.name for report in failed] == ["shop.yaml: document 4"]
    assert failed[0].messages == ("line 26: mapping values are not allowed in this context",)
    assert bad in changed
    assert reports[-1].outcome == "annotated"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (workload("Deployment", hostNetwork=True), "hostNetwork"),
        (workload("Deployment", securityContext={"runAsUser": 2102}), "uid 2102"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "expected spec, found none"),
        ("apiVersion: apps/v1\nkind: Deployment\nspec: {template: 3}\n", "expected spec.template"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: 3}\n", "not a well-formed Pod"),
        ("kind: Pod\nkind: Pod\napiVersion: v1\n", 'key "kind" is given twice'),
    ],
)
def test_what_cannot_be_meshed_is_named_and_passed_on(text: str, message: str) -> None:
    changed, reports = inject_text(text, source="-")

    assert changed == text
    assert reports[0].failed
    assert message in reports[0].messages[0]


@pytest.mark.parametrize("switch", ["linkerd.io/inject", "mesh/inject", "sidecar.istio.io/inject"])
def test_a_switch_that_is_there_is_left_as_it_is(switch: str) -> None:
    document = yaml.safe_load(workload("Deployment"))
    document["spec"]["template"]["metadata"] = {"annotations": {switch: "disabled"}}
    text = yaml.safe_dump(document)

    assert inject_text(text, source="-")[0] == text
    assert uninject_text(text, source="-")[0] == text


def test_doubts_about_annotations_are_warnings() -> None:
    document = yaml.safe_load(workload("Deployment"))
    document["spec"]["template"]["metadata"] = {"annotations": {"mesh/opaque-ports": "x"}}

    reports = inject_text(yaml.safe_dump(document), source="-")[1]

    assert reports[0].outcome == "annotated"
    assert "annotation mesh/opaque-ports: expected a port" in reports[0].messages[0]


def test_an_anchor_that_is_used_twice_changes_in_each_place_alone() -> None:
    text = """\
x: &meta
  labels: {app: web}
apiVersion: apps/v1
kind: Deployment
metadata: *meta
spec:
  template:
    metadata: *meta
    spec: {containers: []}
"""

    changed = yaml.safe_load(inject_text(text, source="-")[0])

    assert changed["metadata"] == {"labels": {"app": "web"}}
    assert changed["spec"]["template"]["metadata"]["annotations"] == {labels.A_INJECT: "enabled"}


def test_merge_keys_are_resolved() -> None:
    text = """\
base: &base {image: "1e3"}
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - <<: *base
    name: web
"""

    changed = yaml.safe_load(inject_text(text, source="-")[0])

    assert changed["spec"]["containers"] == [{"image": "1e3", "name": "web"}]
    assert changed["metadata"]["annotations"] == {labels.A_INJECT: "enabled"}


# -- the commands ------------------------------------------------------------------------------


def run(command: Any, *arguments: str | Path, text: str = "") -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], input=text)


def test_stdin_goes_to_stdout_and_the_news_to_stderr() -> None:
    result = run(inject, "-", text=workload("Deployment"))

    assert result.exit_code == 0
    assert result.stderr == 'deployment "web" annotated\n'
    assert run(uninject, "-", text=result.stdout).stdout == workload("Deployment")


def test_a_folder_gives_its_manifests_in_order_as_one_stream(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "job.yml").write_text(workload("Job", "batch/v1"))
    (tmp_path / "a.yaml").write_text(workload("Deployment").rstrip("\n"))
    (tmp_path / "notes.txt").write_text("no manifest")

    documents = list(yaml.safe_load_all(run(inject, tmp_path).stdout))

    assert [document["kind"] for document in documents] == ["Deployment", "Job"]


def test_a_failure_is_exit_1_after_all_output() -> None:
    text = workload("Deployment", hostNetwork=True) + "---\n" + workload("Job", "batch/v1")

    result = run(inject, "-", text=text)

    assert result.exit_code == 1
    assert "error: hostNetwork" in result.stderr
    assert len(list(yaml.safe_load_all(result.stdout))) == 2


def test_line_ends_of_windows_pass_through() -> None:
    text = "apiVersion: v1\r\nkind: Service\r\n"

    result = CliRunner().invoke(inject, ["-"], input=text.encode())

    assert result.stdout_bytes == text.encode()


def test_the_examples_survive_there_and_back() -> None:
    before = SHOP.read_text()

    injected = run(inject, SHOP).stdout
    back = run(uninject, "-", text=injected).stdout

    plain = list(yaml.safe_load_all(run(uninject, SHOP).stdout))
    assert settled(list(yaml.safe_load_all(back))) == settled(plain)
    assert run(inject, "-", text=injected).stdout == injected
    assert list(yaml.safe_load_all(before))


def test_manual_takes_the_bundle_and_the_config_from_files(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text(BUNDLE)
    (tmp_path / "inject.json").write_text(dump_config(InjectConfig(image="r/mesh:7")))
    options: list[str | Path] = [
        "--manual",
        "--bundle",
        tmp_path / "roots.pem",
        "--config",
        tmp_path / "inject.json",
    ]

    result = run(inject, *options, "--native-sidecar", "-", text=workload("Deployment"))

    spec = yaml.safe_load(result.stdout)["spec"]["template"]["spec"]
    assert [c["image"] for c in spec["initContainers"]] == ["r/mesh:7", "r/mesh:7"]


def test_the_help_lists_every_annotation() -> None:
    text = run(inject, "--help").stdout

    for annotation in labels.ANNOTATIONS:
        assert f"{annotation.name} " in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--manual", "-"], 2, "--manual needs --bundle"),
        (["--bundle", "x", "-"], 2, "go with --manual"),
        (["--manual", "--bundle", "/nowhere", "-"], 1, "/nowhere"),
        (["/nowhere.yaml"], 1, "/nowhere.yaml: cannot be read"),
        ([], 2, "Missing argument"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], code: int, message: str) -> None:
    result = run(inject, *arguments)

    assert result.exit_code == code
    assert message in result.stderr + str(result.exception)
