"""Rendering: same values, same bytes, in an order that applies, without secrets."""

from __future__ import annotations

import base64
import difflib
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Command
from click.testing import CliRunner

from mesh.core import labels
from mesh.inject.config import KEY, load_config
from mesh.install.commands import FLAGS, install
from mesh.install.parts import PARTS
from mesh.install.render import VALUES_KEY, inject_config, print_manifests, render
from mesh.install.upgrade_command import upgrade
from mesh.install.values import Values, build_values
from mesh.runtime.settings import load
from tests.support.authority import TrustChain
from tests.support.golden import check_golden

RENDERED = Path(__file__).parents[2] / "deploy" / "mesh.yaml"

# flag -> a value that is not its default
GIVEN = {
    "--mesh-namespace": "mesh-system",
    "--image": "registry.example/mesh:1.2.3",
    "--image-pull-policy": "Never",
    "--image-pull-secret": "registry",
    "--trust-domain": "example.org",
    "--cluster-domain": "example.internal",
    "--identity-replicas": "3",
    "--destination-replicas": "2",
    "--inject-replicas": "2",
    "--log-level": "debug",
    "--log-format": "json",
    "--proxy-cpu-request": "20m",
    "--proxy-cpu-limit": "1",
    "--proxy-memory-request": "40Mi",
    "--proxy-memory-limit": "128Mi",
    "--proxy-log-level": "warning",
    "--proxy-log-format": "json",
    "--inbound-port": "5143",
    "--outbound-port": "5140",
    "--admin-port": "5191",
}
SETTINGS = {
    "crds": "crds.linkerd=false",
    "smi": "crds.smi=false",
    "fail": "inject.failurePolicy=Fail",
    "timeout": "inject.timeoutSeconds=10",
    "policies": "controlPlane.networkPolicy=true",
    "priority": "controlPlane.priorityClassName=system-cluster-critical",
    "issuer": "identity.issuerSecret=my-issuer",
    "lifetime": "identity.leafLifetime=1h",
    "require-tls": "proxy.requireTls=enabled",
}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(install, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def difference(text: str) -> str:
    """What a flag changes in the default rendering."""
    before = print_manifests(render(Values())).splitlines()
    lines = difflib.unified_diff(before, text.splitlines(), "default", "changed", lineterm="", n=2)
    return "".join(re.sub(r"^@@ .* @@$", "@@", line) + "\n" for line in lines)


def test_the_default_rendering_is_in_deploy() -> None:
    text = print_manifests(render(Values()))

    check_golden("../../deploy/mesh.yaml", text)
    assert text == run() == run()


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_changes_what_it_names(flag: str) -> None:
    name = flag.removeprefix("--")

    check_golden(f"install/{name}.diff", difference(run(flag, GIVEN[flag])))


@pytest.mark.parametrize("name", SETTINGS)
def test_each_of_these_settings_changes_what_it_names(name: str) -> None:
    check_golden(f"install/set-{name}.diff", difference(run("--set", SETTINGS[name])))


def test_ha_gives_three_pods_of_each_part_that_are_kept_apart() -> None:
    text = run("--ha")

    check_golden("install/ha.diff", difference(text))
    fewer = list(yaml.safe_load_all(run("--ha", "--inject-replicas", "2")))
    found = {d["metadata"]["name"]: d["spec"] for d in fewer if d["kind"] == "Deployment"}
    assert {name: spec["replicas"] for name, spec in found.items()} == {
        labels.IDENTITY: 3,
        labels.DESTINATION: 3,
        labels.INJECT: 2,
    }


def test_crds_prints_the_definitions_alone() -> None:
    kinds = {doc["kind"] for doc in yaml.safe_load_all(run("--crds"))}

    assert kinds == {"CustomResourceDefinition"}
    assert run("--crds") in run()
    check_golden("install/crds.yaml", run("--crds"))


def test_gateway_api_adds_definitions_and_never_reads_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")

    text = run("--gateway-api")

    check_golden("install/gateway-api.diff", difference(text))
    assert text == run("--gateway-api") == run("--set", "crds.gateway=true")
    assert run("--crds", "--gateway-api") in text
    config = next(d for d in yaml.safe_load_all(text) if d["kind"] == "ConfigMap")
    assert yaml.safe_load(config["data"][VALUES_KEY]) == {"crds": {"gateway": True}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--admin-port", "abc"], "'--admin-port': expected a number from"),
        (["--image-pull-policy", "never"], "'--image-pull-policy': expected Always or"),
        (["--identity-replicas", "0"], "'--identity-replicas': expected a number from 1"),
        (["--image", "mesh:latest"], "'--image': expected an image with a tag"),
        (["--set", "foo=bar"], "'--set': foo: no such value"),
        (["--set", "image"], "'--set': expected key=value such as"),
        (["--set", "proxy.logLevel=loud"], "'--set': proxy.logLevel: expected"),
        (["--admin-port", "4143"], "expected three different ports, got"),
        (["--identity-issuer-key-file", "x"], "go together"),
    ],
)
@pytest.mark.parametrize("command", [install, upgrade])
def test_a_wrong_value_is_a_usage_error_that_names_the_flag(
    command: Command, arguments: list[str], message: str
) -> None:
    names = {name for parameter in command.params for name in parameter.opts}
    if arguments[0] not in names or (command is upgrade and arguments[1] == "4143"):
        return  # upgrade learns the other ports from the cluster
    result = CliRunner().invoke(command, arguments)
    said = " ".join(result.output.split())
    assert (result.exit_code, message in said) == (2, True), said


def test_flags_win_over_set_and_set_over_files(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("image: a:1\nproxy: {logLevel: debug, cpuLimit: 1}\n")

    text = run("-f", str(file), "--set", "proxy.cpuLimit=2", "--image", "c:1")

    same = build_values({"image": "c:1", "proxy": {"logLevel": "debug", "cpuLimit": "2"}})
    assert text == print_manifests(render(same))
    check_golden("install/values.diff", difference(text))


def test_an_issuer_of_ones_own_becomes_a_secret_and_a_value(tmp_path: Path) -> None:
    chain = TrustChain()
    texts = {
        "trust-anchors": chain.bundle,
        "issuer-certificate": chain.issuer.certificate_pem,
        "issuer-key": chain.issuer.key_pem,
    }
    arguments = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        arguments += [f"--identity-{name}-file", str(tmp_path / name)]

    shown = run(*arguments)

    for name, text in texts.items():  # made for this run, so the golden file names them
        encoded = base64.b64encode(text.encode()).decode()
        assert encoded in shown
        shown = shown.replace(encoded, f"<{name} in base64>")
    check_golden("install/identity-files.diff", difference(shown))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: b: c", "line 1: mapping values are not allowed"),
        ("- 1", "expected keys and values, got list"),
    ],
)
def test_a_bad_values_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(content)

    result = CliRunner().invoke(install, ["-f", str(file)])

    assert f"-f {file}: {message}" in str(result.exception)


def test_the_help_shows_each_flag_with_its_default() -> None:
    text = " ".join(run("--help").split())

    for flag in FLAGS:
        assert flag in text
    assert text.count("[default:") >= len(FLAGS)


def test_every_object_is_labelled_and_named_once() -> None:
    manifests = render(build_values({"inject": {"replicas": 2}}))

    assert all(m["metadata"]["labels"][labels.L_PART_OF] == labels.PART_OF for m in manifests)
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))


def test_a_namespace_comes_before_what_lies_in_it_and_webhooks_come_last() -> None:
    kinds = [m["kind"] for m in render(Values())]

    assert kinds[0] == "Namespace"
    assert kinds.index("ServiceAccount") < kinds.index("Deployment")
    assert kinds[-2:] == ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]


def test_no_key_material_and_no_ca_bundle_is_rendered() -> None:
    text = run()

    assert "PRIVATE KEY" not in text
    assert "caBundle" not in text
    assert "kind: Secret" not in text


def test_the_config_map_tells_the_injector_the_install_values() -> None:
    values = build_values(
        {"namespace": "m", "imagePullPolicy": "Never", "proxy": {"cpuLimit": "1"}}
    )

    data = next(m for m in render(values) if m["kind"] == "ConfigMap")["data"]

    assert load_config(data[KEY]) == inject_config(values)
    assert build_values(yaml.safe_load(data[VALUES_KEY])) == values
    assert load_config(data[KEY]).defaults["mesh/image-pull-policy"] == "Never"


def pods() -> list[dict[str, Any]]:
    return [m["spec"]["template"]["spec"] for m in render(Values()) if m["kind"] == "Deployment"]


def test_control_plane_pods_meet_the_restricted_pod_security_level() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert all({"emptyDir", "projected"} & set(v) for v in pod["volumes"])
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["runAsUser"] == labels.CONTROL_UID
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_control_plane_pods_are_out_of_the_webhook_s_sight() -> None:
    manifests = render(Values())
    hook = next(m for m in manifests if m["kind"].startswith("Mutating"))["webhooks"][0]
    templates = [m["spec"]["template"] for m in manifests if m["kind"] == "Deployment"]

    assert hook["objectSelector"]["matchExpressions"][0]["key"] == labels.L_COMPONENT
    assert all(labels.L_COMPONENT in t["metadata"]["labels"] for t in templates)
    assert hook["namespaceSelector"]["matchExpressions"][0]["values"] == ["kube-system", "mesh"]
    assert (hook["failurePolicy"], hook["timeoutSeconds"]) == ("Ignore", 5)
    assert (hook["reinvocationPolicy"], hook["sideEffects"]) == ("IfNeeded", "NoneOnDryRun")


def test_each_role_gets_the_variables_that_it_needs_to_start() -> None:
    for part in PARTS:
        (pod,) = (
            m["spec"]["template"]["spec"]
            for m in render(Values())
            if m["kind"] == "Deployment" and m["metadata"]["name"] == part.name
        )
        (container,) = pod["containers"]
        given = {item["name"]: item.get("value", "x") for item in container["env"]}

        load(part.settings, given)
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        folders = {text for text in given.values() if text.startswith("/var/run/")}
        assert mounted == {folder.removesuffix("/token") for folder in folders}


def test_services_select_the_pods_of_their_role() -> None:
    manifests = render(Values())
    templates = {
        m["metadata"]["name"]: m["spec"]["template"] for m in manifests if m["kind"] == "Deployment"
    }
    services = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "Service"}

    assert set(services) == set(templates)
    for name, service in services.items():
        template = templates[name]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        listening = {p["containerPort"] for c in template["spec"]["containers"] for p in c["ports"]}
        assert {p["targetPort"] for p in service["ports"]} <= listening
    assert not any("clusterIP" in service for service in services.values())


def test_rendering_takes_less_than_a_second_of_cpu_imports_included() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "mesh", "install"], capture_output=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert done.stdout.decode() == RENDERED.read_text()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
