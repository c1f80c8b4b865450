"""Values: what can be set, how, and what a mistake is told."""

from __future__ import annotations

import pytest

from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.install.values import (
    Proxy,
    build_values,
    changed_values,
    describe_values,
    merge_trees,
    parse_assignments,
)


def problems_of(*trees: dict[str, object]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        build_values(*trees)
    return caught.value.problems


def test_later_trees_win_leaf_by_leaf() -> None:
    values = build_values(
        {"proxy": {"logLevel": "debug", "cpuLimit": "1"}}, {"proxy": {"cpuLimit": "500m"}}
    )

    assert (values.proxy.log_level, values.proxy.cpu_limit) == ("debug", "500m")


def test_assignments_make_a_tree_and_the_last_one_wins() -> None:
    tree = parse_assignments(["crds.smi=false", "image=a:1", "crds.smi=true", "proxy.cpuLimit="])

    assert tree == {"crds": {"smi": "true"}, "image": "a:1", "proxy": {"cpuLimit": ""}}


def test_merging_leaves_both_inputs_alone() -> None:
    base = {"proxy": {"logLevel": "info"}}

    merged = merge_trees(base, {"proxy": {"cpuLimit": "1"}})

    assert merged == {"proxy": {"logLevel": "info", "cpuLimit": "1"}}
    assert base == {"proxy": {"logLevel": "info"}}


def test_every_mistake_is_told_at_once_with_the_nearest_key() -> None:
    found = problems_of(
        {"proxy": {"loglevel": "debug"}, "imag": "a:1", "crds": {"smi": "maybe"}, "zzz": "1"}
    )

    assert found == (
        "proxy.loglevel: no such value; did you mean proxy.logLevel?",
        "imag: no such value; did you mean image?",
        'crds.smi: expected true or false, got "maybe"',
        "zzz: no such value; mesh install --help-values lists all keys",
    )


@pytest.mark.parametrize(
    ("key", "given", "problem"),
    [
        ("image", "mesh:latest", "expected an image with a tag other than latest"),
        ("image", "mesh", "expected an image with a tag other than latest"),
        ("image", "a b:1", "expected an image such as registry/mesh:1.0"),
        ("namespace", "A", "expected a namespace (letters, digits and dashes)"),
        ("trustDomain", "a_b", "expected a domain such as cluster.local"),
        ("identity.replicas", "0", "expected a number from 1 to 100"),
        ("identity.leafLifetime", "30h", "expected a duration from 1m to 24h"),
        ("inject.failurePolicy", "fail", "expected Ignore or Fail"),
        ("proxy", "debug", "expected keys below it"),
        ("proxy.opaquePorts", "70000", "expected a port from 1 to 65535"),
        ("proxy.cpuLimit", "0", "expected a quantity above 0"),
        ("proxy.requireTls", "yes", "expected enabled or disabled"),
        ("destination.memoryLimit", "lots", "expected a quantity such as 1, 500m or 2Gi"),
    ],
)
def test_a_wrong_value_is_an_error(key: str, given: str, problem: str) -> None:
    assert problems_of(parse_assignments([f"{key}={given}"])) == (
        f'{key}: {problem}, got "{given}"',
    )


def test_a_list_is_no_value() -> None:
    assert problems_of({"image": ["a:1"]}) == ("image: expected one value, got list",)


def test_the_proxy_s_three_ports_differ() -> None:
    (problem,) = problems_of({"proxy": {"adminPort": 4143}})

    assert problem.endswith("expected three different ports, got 4143, 4140, 4143")


def test_an_assignment_without_a_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_assignments(["image"])


@pytest.mark.parametrize("image", ["mesh:1", "registry:5000/a/mesh:1.0", "mesh@sha256:" + "0" * 64])
def test_an_image_needs_a_tag_or_a_digest(image: str) -> None:
    assert build_values({"image": image}).image == image


def test_only_what_differs_from_the_defaults_is_kept() -> None:
    given = {"crds": {"smi": False}, "inject": {"replicas": 3}, "proxy": {"logLevel": "debug"}}

    kept = changed_values(build_values(given, {"image": build_values().image}))

    assert kept == given
    assert build_values(kept) == build_values(given)


def test_every_annotation_has_an_install_wide_default() -> None:
    settable = {f.metadata.get("annotation") for f in Proxy.__dataclass_fields__.values()}

    assert {a.name for a in labels.ANNOTATIONS} - settable == {labels.A_INJECT}


def test_every_value_is_described() -> None:
    described = describe_values()

    assert all(item.help for item in described)
    assert {"namespace", "crds.smi", "proxy.adminPort"} <= {item.key for item in described}
