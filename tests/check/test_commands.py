from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesh.check.commands import check
from mesh.check.facts import Clash
from mesh.check.packages import find_clashes

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "SERVER"}}]
users: [{name: me, user: {token: t}}]
"""


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """A kubeconfig whose server nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = f"https://127.0.0.1:{taken.getsockname()[1]}"
    path = tmp_path / "config"
    path.write_text(KUBECONFIG.replace("SERVER", server))
    return str(path)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(check, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.parametrize("mode", [[], ["--pre"], ["--proxy"], ["--proxy", "-n", "shop"]])
@pytest.mark.parametrize("form", ["table", "short", "json"])
def test_without_an_api_server_every_mode_and_form_ends_well(
    nowhere: str, mode: list[str], form: str
) -> None:
    result = run(*mode, "-o", form, "--kubeconfig", nowhere)

    assert result.exit_code == 1
    if form == "json":
        assert json.loads(result.stdout)["success"] is False
    else:
        assert "API server https://127.0.0.1" in result.stdout
        assert result.stdout.endswith("Status check results are ×\n")  # noqa: RUF001


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_kubeconfig_that_is_missing_or_broken_is_one_fault(tmp_path: Path, form: str) -> None:
    broken = tmp_path / "broken"
    broken.write_text("clusters: {")

    for path in (broken, tmp_path / "missing"):
        result = run("--kubeconfig", str(path), "-o", form)
        assert result.exit_code == 1
        assert str(path) in result.stdout
        assert "--kubeconfig" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--pre", "--proxy"], ["-n", "shop"], ["--wait", "soon"], ["-o", "yaml"], ["extra"]],
)
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_package_of_the_same_name_from_elsewhere_clashes() -> None:
    installed = {"mesh": ["lightmesh"], "proxy": ["lightmesh", "proxy.py"], "init": ["LightMesh"]}

    assert find_clashes(installed) == (Clash("proxy", "proxy.py"),)
