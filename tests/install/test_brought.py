"""An issuer that the operator brings: proven before anything is printed."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from mesh.install.commands import install
from tests.support.authority import TrustChain


def write(folder: Path, chain: TrustChain, **texts: str) -> list[str]:
    """The three flags for files of a chain; `texts` replaces some."""
    given = {
        "trust-anchors": chain.bundle,
        "issuer-certificate": chain.issuer.certificate_pem,
        "issuer-key": chain.issuer.key_pem,
    } | {name.replace("_", "-"): text for name, text in texts.items()}
    arguments = []
    for name, text in given.items():
        (folder / name).write_text(text)
        arguments += [f"--identity-{name}-file", str(folder / name)]
    return arguments


def run(*arguments: str) -> Result:
    return CliRunner().invoke(install, arguments)


def test_the_issuer_becomes_a_secret_that_identity_mounts(tmp_path: Path) -> None:
    chain = TrustChain()

    result = run(*write(tmp_path, chain))

    manifests = {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all(result.stdout)}
    data = manifests["Secret", "mesh-identity-issuer"]["data"]
    assert base64.b64decode(data["tls.key"]).decode() == chain.issuer.key_pem
    assert base64.b64decode(data["ca.crt"]).decode() == chain.bundle
    pod = manifests["Deployment", "mesh-identity"]["spec"]["template"]["spec"]
    assert {"name": "issuer", "secret": {"secretName": "mesh-identity-issuer"}} in pod["volumes"]
    folder = {"name": "MESH_IDENTITY_ISSUER_DIR", "value": "/var/run/mesh/issuer"}
    assert folder in pod["containers"][0]["env"]
    config = manifests["ConfigMap", "mesh-config"]["data"]
    assert "PRIVATE KEY" not in str(config)
    assert yaml.safe_load(config["values.yaml"]) == {
        "identity": {"issuerSecret": "mesh-identity-issuer"}
    }


OTHER = TrustChain()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"trust_anchors": OTHER.bundle}, "expected a chain to a trust anchor"),
        ({"issuer_key": OTHER.issuer.key_pem}, "expected the private key of"),
        ({"issuer_certificate": "no PEM"}, "expected a PEM certificate"),
        ({"trust_anchors": "é"}, "expected PEM text"),
    ],
)
def test_what_peers_would_refuse_is_refused_here(
    tmp_path: Path, texts: dict[str, str], message: str
) -> None:
    result = run(*write(tmp_path, TrustChain(), **texts))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in str(result.exception)


def test_an_issuer_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    result = run(*write(tmp_path, TrustChain()), "--trust-domain", "example.org")

    assert result.exit_code == 1
    assert result.stdout == ""


def test_an_expired_issuer_is_refused(tmp_path: Path) -> None:
    result = run(*write(tmp_path, TrustChain(now=1_000_000_000.0)))

    assert result.exit_code == 1
    assert "2003" in str(result.exception) or "2002" in str(result.exception)


def test_the_three_files_go_together(tmp_path: Path) -> None:
    result = run(*write(tmp_path, TrustChain())[:2])

    assert result.exit_code == 2
    assert "go together" in result.stderr
