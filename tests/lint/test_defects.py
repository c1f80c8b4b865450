"""mesh lint: each planted defect is found at its line, and good manifests have none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.core.match import compile_condition, compile_matches
from mesh.core.model import Condition, Match, QueryMatch
from mesh.explain.decide import decide
from mesh.explain.question import find_asker, parse_question
from mesh.explain.world import compile_files
from mesh.install.commands import install
from mesh.lint.commands import lint, lint_files
from mesh.lint.rules.compiled import fill_store
from mesh.lint.rules.finding import Finding, Level
from mesh.lint.rules.routes import covers
from mesh.lint.rules.shares import Held, find_share_faults
from mesh.lint.rules.source import read_manifests
from mesh.lint.rules.tables import covers_match
from proxy.patterns import compile_pattern
from tests.destination.test_properties import bad_objects

ROOT = Path(__file__).parents[2]

SERVICES = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: odd, namespace: shop}
spec: {selector: {app: odd}, ports: [{name: http, port: 81}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}}}
---
"""
SPLIT = """\
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec:
  service: web
  backends:
  - {service: web, weight: 90}
  - {service: web-v2, weight: 10}
"""
PROFILE = """\
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.shop.svc.cluster.local, namespace: shop}
spec:
  routes:
  - name: one
    condition: {method: GET, pathRegex: /one}
    timeout: 1s
  - name: two
    condition: {method: POST, pathRegex: /two}
"""
ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules:
  - matches: [{path: {value: /api}, method: GET}]
    timeouts: {request: 4s, backendRequest: 1s}
    retry: {codes: [503], attempts: 2}
  - backendRefs:
    - {name: web, port: 80, weight: 9}
    - {name: web-v2, port: 80, weight: 1}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: api
  namespace: shop
  annotations:
    timeout.linkerd.io/request: 2s
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""
# The Service says how long one try may take, the route how long the whole request.
ROUTED = (
    SERVICE.replace("request: 2s", "request: 9s\n    retry.linkerd.io/timeout: 2s")
    + "---\n"
    + ROUTE.replace("Service, name: web}", "Service, name: api}").replace(
        "request: 4s", "request: 9s"
    )
)
GROUP = """\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g, namespace: shop}
spec:
  matches:
  - {name: a, pathRegex: /a, methods: [GET]}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
  namespace: shop
  annotations:
    note: x
spec:
  template:
    metadata:
      labels: {app: api}
      annotations:
        mesh/inject: enabled
        mesh/connect-timeout: 2s
"""

# what is planted: text, replaced by, reason, the line in the text, level
DEFECTS = [
    (SPLIT, "weight: 90", "weigth: 1, weight: 90", "UnknownField", 7, "error"),
    (SPLIT, "service: web-v2,", "service: web-v3,", "NoSuchService", 8, "error"),
    (SPLIT, "service: web-v2,", "service: odd,", "PortMismatch", 8, "error"),
    (SPLIT, "service: web-v2,", "service: odd,", "NoWorkload", 8, "warning"),
    (SPLIT, "service: web-v2,", "service: web,", "RepeatedBackend", 8, "warning"),
    (SPLIT, "service: web\n", "service: wed\n", "NoSuchService", 5, "error"),
    (SPLIT, "weight: 10", "weight: ten", "InvalidWeight", 8, "error"),
    (SPLIT, "weight: 10", "weight: -1", "InvalidWeight", 8, "error"),
    (SPLIT, "90}\n  - {service: web-v2, weight: 10", "0", "AllWeightsZero", 6, "error"),
    (SPLIT, "  service: web\n", "  service: web\n  matches: [{}]\n", "Malformed", 6, "error"),
    (SPLIT, "v1alpha4", "v1alpha5", "UnknownField", 1, "error"),
    (SPLIT, "TrafficSplit", "TraficSplit", "UnknownField", 2, "error"),
    (SPLIT, "spec:", "sepc:", "UnknownField", 4, "error"),
    (SPLIT, "namespace: shop", "namespace: shop, labls: {}", "UnknownField", 3, "error"),
    (SPLIT, SPLIT, SPLIT + "---\n" + SPLIT.replace("name: web,", "name: z,"), "ShadowedBy", 10,
     "warning"),
    (SPLIT, SPLIT, SPLIT + "---\n" + SPLIT, "RepeatedObject", 10, "warning"),
    (SPLIT, SPLIT, SPLIT + PROFILE, "SeveralObjects", 9, "error"),
    (SPLIT, "weight: 10", "weight: 10, weight: 20", "RepeatedKey", 8, "error"),
    (SPLIT, "weight: 10}", "weight: 10", "InvalidYaml", 9, "error"),
    (PROFILE, "name: web.shop", "name: wed.shop", "NoSuchService", 3, "error"),
    (PROFILE, "pathRegex: /one", "pathRegx: /one", "UnknownField", 7, "error"),
    (PROFILE, "pathRegex: /one", "pathRegex: /(", "InvalidRegex", 7, "error"),
    (PROFILE, "timeout: 1s", "timeout: fast", "InvalidDuration", 8, "error"),
    (PROFILE, "timeout: 1s", "isRetryble: true", "UnknownField", 8, "error"),
    (PROFILE, "method: GET, pathRegex: /one", "pathRegex: /.*", "UnreachableRoute", 9, "error"),
    (PROFILE, "method: POST, pathRegex: /two", "method: GET, pathRegex: /one", "UnreachableRoute",
     9, "error"),
    (PROFILE, "pathRegex: /two}", "pathRegex: /two}\n    isRetryable: true", "UnsafeRetry", 11,
     "warning"),
    (PROFILE, "spec:\n", "spec:\n  retryBudget: {retryRato: 0.2}\n", "UnknownField", 5, "error"),
    (DEPLOYMENT, "mesh/connect-timeout:", "mesh/conect-timeout:", "UnknownAnnotation", 14, "error"),
    (DEPLOYMENT, "timeout: 2s", "timeout: two", "InvalidAnnotation", 14, "error"),
    (DEPLOYMENT, "inject: enabled", "inject: yes please", "InvalidAnnotation", 13, "error"),
    (DEPLOYMENT, "note: x", "linkerd.io/inject: enabled", "MisplacedAnnotation", 7, "error"),
    (ROUTE, "name: web-v2,", "name: web-v3,", "BackendNotFound", 12, "error"),
    (ROUTE, "web-v2, port: 80", "web-v2, port: 81", "BackendNotFound", 12, "error"),
    (ROUTE, "web-v2,", "odd,", "BackendNotFound", 12, "error"),
    (ROUTE, "Service, name: web}", "Service, name: wed}", "NoMatchingParent", 5, "error"),
    (ROUTE, "Service, name: web}", "Service, name: web, port: 81}", "NoMatchingParent", 5, "error"),
    (ROUTE, "method: GET", "methd: GET", "UnknownField", 7, "error"),
    (ROUTE, "value: /api", "type: RegularExpression, value: '['", "InvalidRegex", 7, "error"),
    (ROUTE, "request: 4s", "request: fast", "InvalidDuration", 8, "error"),
    (ROUTE, "request: 4s", "request: 1s", "RetryInVain", 8, "warning"),
    (ROUTE, "request: 4s", "request: 2s", "RetriesDoNotFit", 8, "note"),
    (ROUTE, "backendRequest: 1s}\n    retry: {codes: [503], attempts: 2}", "backendRequest: 9s}",
     "TimeoutInVain", 8, "warning"),
    (ROUTE, ", method: GET", "", "UnsafeRetry", 9, "warning"),
    (ROUTE, "codes: [503]", "codes: [200]", "InvalidValue", 9, "error"),
    (ROUTE, "weight: 9}\n    - {name: web-v2, port: 80, weight: 1}", "weight: 0}", "AllWeightsZero",
     10, "error"),
    (ROUTE, "  - backendRefs:",
     "  - matches: [{path: {value: /api}, method: GET}]\n    backendRefs:",
     "UnreachableRule", 10, "error"),
    (ROUTE, "  - backendRefs:", "  - filters: [{type: ExtensionRef}]\n    backendRefs:",
     "UnsupportedFilter", 10, "warning"),
    (ROUTE, ROUTE, ROUTE + "---\n" + ROUTE.replace("HTTPRoute", "GRPCRoute").replace(
        "    timeouts: {request: 4s, backendRequest: 1s}\n    retry: {codes: [503], attempts: 2}\n"
        , "").replace("path: {value: /api}, method: GET", "method: {service: a}"),
     "Conflicted", 5, "warning"),
    (ROUTE, ROUTE, SPLIT + "---\n" + ROUTE.replace("name: web, port", "name: web-v2, port").replace(
        "  - matches: [{path: {value: /api}, method: GET}]\n    timeouts: {request: 4s, "
        "backendRequest: 1s}\n    retry: {codes: [503], attempts: 2}\n", ""),
     "ShadowedBy", 1, "warning"),
    (ROUTE, "HTTPRoute", "HttpRoute", "UnknownField", 2, "error"),
    (ROUTE, "parentRefs:", "parentRef:", "UnknownField", 5, "error"),
    (ROUTE, '  parentRefs: [{group: "", kind: Service, name: web}]\n', "", "NoParent", 4, "error"),
    (ROUTE, '{group: "", kind: Service, name: web}', "{name: web}", "InvalidKind", 5, "warning"),
    (ROUTE, "kind: Service", "kind: service", "UnknownField", 5, "error"),
    (ROUTE, 'group: ""', "group: v1", "InvalidKind", 5, "error"),
    (ROUTE, "kind: Service, name: web}", "kind: Service, name: no}", "Malformed", 5, "error"),
    (ROUTE, ROUTE, ROUTE[:ROUTE.index("spec:")] + "spec: [1]\n", "Malformed", 4, "error"),
    (SERVICE, "request: 2s", "request: two", "InvalidDuration", 7, "error"),
    (SERVICE, "linkerd.io/request", "linkerd.io/requests", "UnknownField", 7, "error"),
    (SERVICE, "timeout.linkerd.io/request: 2s", "retry.linkerd.io/http: 5xx", "UnsafeRetry", 7,
     "warning"),
    (SERVICE, "request: 2s", "request: 2s\n    retry.linkerd.io/timeout: 2s", "RetryInVain", 6,
     "warning"),
    (ROUTED, "9s, backendRequest: 1s}", "2s}", "RetryInVain", 18, "warning"),
    (GROUP, "pathRegex: /a", "pathRegex: '('", "InvalidRegex", 6, "error"),
    (GROUP, "methods:", "method:", "UnknownField", 6, "error"),
]  # fmt: skip


def found_in(text: str) -> list[Finding]:
    return lint_files([("services.yaml", SERVICES), ("under-test.yaml", text)])[0]


@pytest.mark.parametrize(
    ("text", "old", "new", "reason", "line", "level"),
    DEFECTS,
    ids=[d[3] + str(d[4]) for d in DEFECTS],
)
def test_a_planted_defect_is_found_at_its_line(
    text: str, old: str, new: str, reason: str, line: int, level: str
) -> None:
    assert found_in(text) == []

    found = found_in(text.replace(old, new, 1))

    assert (reason, line, level) in [(item.reason, item.line, item.level) for item in found]
    assert all(item.file == "under-test.yaml" and item.remedy for item in found)


def test_objects_without_a_marker_between_them_are_all_judged() -> None:
    found = found_in(SPLIT + PROFILE.replace("timeout: 1s", "timeout: fast"))

    assert [item.reason for item in found] == ["SeveralObjects", "InvalidDuration"]


def test_an_annotation_on_a_service_is_judged() -> None:
    service = "metadata: {name: other, namespace: shop, annotations: {mesh/opaque-prots: '25'}}"
    text = f"apiVersion: v1\nkind: Service\n{service}\nspec: {{ports: [{{port: 25}}]}}\n"

    (finding,) = found_in(text)

    assert (finding.reason, finding.line) == ("UnknownField", 3)
    assert "did you mean mesh/opaque-ports" in finding.message


def test_references_into_namespaces_that_the_files_do_not_hold_are_not_judged() -> None:
    assert lint_files([("split.yaml", SPLIT), ("profile.yaml", PROFILE)])[0] == []


def test_timeouts_are_judged_without_the_service_too() -> None:
    text = ROUTE.replace("request: 4s", "request: 1s")

    assert [item.reason for item in lint_files([("a.yaml", text)])[0]] == ["RetryInVain"]


def test_of_a_route_of_gateways_only_unknown_fields_are_ours_to_judge() -> None:
    gateway = ROUTE.replace('{group: "", kind: Service, name: web}', "{name: front}")
    foreign = gateway.replace("  - backendRefs:", "  - filters: [{type: ExtensionRef}]")
    foreign = foreign[: foreign.index("    - {name")]
    assert found_in(foreign) == []

    (finding,) = found_in(foreign.replace("timeouts:", "timeout:"))

    assert (finding.reason, finding.line) == ("UnknownField", 8)


def test_what_is_no_kubernetes_object_is_left_out() -> None:
    assert lint_files([("values.yaml", "image: {tag: 1}\n")]) == ([], 0)


def test_items_of_a_list_are_judged_at_their_lines() -> None:
    item = SPLIT.replace("weight: 10", "weight: ten").replace("\n", "\n    ").rstrip()
    text = f"apiVersion: v1\nkind: List\nitems:\n  - {item}\n"

    (finding,) = found_in(text)

    assert (finding.reason, finding.line) == ("InvalidWeight", 11)


def test_the_examples_have_no_findings() -> None:
    result = CliRunner().invoke(lint, ["-f", str(ROOT / "deploy")])

    assert result.exit_code == 0, result.output
    assert result.output.startswith("no findings in ")


def test_what_install_prints_has_no_findings() -> None:
    text = CliRunner().invoke(install).output

    result = CliRunner().invoke(lint, ["-f", "-"], input=text)

    assert result.exit_code == 0, result.output
    assert result.output.startswith("no findings in ")


def test_errors_end_in_exit_1_with_file_line_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text(SPLIT.replace("weight: 10", "weight: ten"))

    result = CliRunner().invoke(lint, ["-f", str(tmp_path)])

    assert result.exit_code == 1
    assert f"{tmp_path}/split.yaml:8: error: TrafficSplit/shop/web" in result.output
    assert "write a weight of 0 or more" in result.output


def test_warnings_alone_end_in_exit_0(tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text(SPLIT.replace("web-v2", "web"))

    assert CliRunner().invoke(lint, ["-f", str(tmp_path)]).exit_code == 0


def test_sarif_names_rule_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text(SPLIT.replace("weight: 10", "weight: ten"))

    result = CliRunner().invoke(lint, ["-f", str(tmp_path), "-o", "sarif"])

    (run,) = json.loads(result.output)["runs"]
    (found,) = run["results"]
    place = found["locations"][0]["physicalLocation"]
    assert found["ruleId"] == run["tool"]["driver"]["rules"][found["ruleIndex"]]["id"]
    assert place["artifactLocation"]["uri"].endswith("split.yaml")
    assert place["region"]["startLine"] == 8


def test_json_holds_every_field_of_a_finding(tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text(SPLIT.replace("weight: 10", "weight: ten"))

    result = CliRunner().invoke(lint, ["-f", str(tmp_path), "-o", "json"])

    (found,) = json.loads(result.output)["findings"]
    assert found["level"] == Level.ERROR
    assert found["path"] == "spec.backends[1].weight"


def test_a_folder_without_manifests_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(lint, ["-f", str(tmp_path)])

    assert "holds no .yaml" in str(result.exception)


MATCHES = st.builds(
    Match,
    path=st.none() | st.sampled_from(["/a", "/b", "/a/b"]),
    path_prefix=st.none() | st.sampled_from(["/", "/a", "/a/"]),
    path_regex=st.none() | st.sampled_from(["/a", "/.*", "/[ab]"]),
    method=st.none() | st.sampled_from(["GET", "POST"]),
    query=st.sampled_from([(), (QueryMatch("x", "1"),)]),
)


@settings(max_examples=1000, deadline=None)
@given(MATCHES, MATCHES)
def test_a_match_that_covers_another_is_met_whenever_that_is(first: Match, then: Match) -> None:
    covered = covers_match(first, then)
    one = compile_matches([first], compile_pattern)
    other = compile_matches([then], compile_pattern)

    for method in ("GET", "POST"):
        for path in ("/", "/a", "/b", "/a/b", "/ab"):
            for query in ("", "x=1"):
                head = Head(method, path)
                head.query = query
                if covered and (other is None or other(head)):
                    assert one is None or one(head)


class Head:
    def __init__(self, method: str, path: str) -> None:
        self.method, self.path, self.query = method, path, ""

    def values(self, name: str, /) -> list[str]:
        return []


plain = st.builds(
    Condition,
    path=st.none() | st.sampled_from(["/a", "/b"]),
    path_regex=st.none() | st.sampled_from(["/a", "/.*", "/[ab]"]),
    method=st.none() | st.sampled_from(["GET", "POST"]),
).filter(lambda c: c != Condition())
conditions = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda p: Condition(all=tuple(p))),
        st.lists(inner, min_size=1, max_size=2).map(lambda p: Condition(any=tuple(p))),
        inner.map(lambda p: Condition(negated=p)),
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(conditions, conditions)
def test_a_route_that_is_called_unreachable_is_never_met_first(
    first: Condition, then: Condition
) -> None:
    heads = [Head(m, p) for m in ("GET", "POST", "PUT") for p in ("/a", "/b", "/c", "/")]
    tests = [compile_condition(condition, compile_pattern) for condition in (first, then)]

    if covers(first, then):
        assert not [head for head in heads if tests[1](head) and not tests[0](head)]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_reported(text: str) -> None:
    manifests, findings = read_manifests([("x.yaml", text)])

    assert all(item.line >= 1 for item in findings)
    assert all(item.line_of("spec.routes[0].name") >= 1 for item in manifests)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(st.lists(bad_objects(), max_size=3))
def test_whatever_objects_hold_is_judged_and_replayed(bad: list[dict[str, Any]]) -> None:
    text = SERVICES + yaml.safe_dump_all([*bad, *({**obj, "kind": "Deployment"} for obj in bad)])

    findings, _ = lint_files([("x.yaml", text)])
    found = compile_files([("x.yaml", text)], namespace="default", mesh_namespace="mesh")
    asker = find_asker(found.store, "", "shop")
    decision = decide(
        found.store, found.snapshot, asker, parse_question("GET", "http://web/", ()), None
    )

    assert all(item.line >= 1 and item.remedy for item in findings)
    assert decision.where == "service"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\n",
        "? [a]\n: b\n? [a]\n: c\n",
        "a: &a [x, x]\nb: &b [*a, *a]\n"
        + "".join(
            f"c{n}: &c{n} [{', '.join([f'*c{n - 1}' if n else '*b'] * 9)}]\n" for n in range(20)
        ),
        "[" * 200,
    ],
    ids=["in itself", "odd keys", "laughs", "deep"],
)
def test_a_hostile_text_costs_little(text: str) -> None:
    begun = time.process_time()

    read_manifests([("x.yaml", text)])

    assert time.process_time() - begun < 1.0


def test_a_large_folder_costs_what_it_weighs() -> None:
    text = "---\n".join(
        SERVICES.split("---\n")[part].replace("web", f"web{at}")
        for at in range(1000)
        for part in (0, 3)
    )
    split = SPLIT.replace("service: web", "service: web1").replace("web1-v2", "web2")
    manifests, _ = read_manifests([("a.yaml", text), ("b.yaml", split)])
    store = fill_store(manifests)
    began = time.process_time()

    held = Held(manifests)
    found = [one for item in manifests for one in find_share_faults(item, store, held)]

    assert found == []
    assert time.process_time() - began < 0.5
