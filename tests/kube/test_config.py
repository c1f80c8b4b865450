"""Where the API server is: files, contexts, the pod's own account."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
import yaml

from mesh.core.errors import ApiError, ConfigError
from mesh.kube.client import NO_CREDENTIALS, UNTRUSTED, KubeClient
from mesh.kube.config import find_access
from tests.kube.scripted import answer, serving
from tests.support.authority import TrustChain
from tests.support.embedded_api import embedded_api

ONE = """
apiVersion: v1
current-context: one
contexts: [{name: one, context: {cluster: one, user: me, namespace: shop}}]
clusters: [{name: one, cluster: {server: "https://one:6443", certificate-authority: ca.crt}}]
users: [{name: me, user: {token: t1}}]
"""
TWO = """
current-context: two
contexts: [{name: two, context: {cluster: two, user: me}}]
clusters: [{name: two, cluster: {server: "https://two:6443"}}]
users: [{name: me, user: {token: t2}}, {name: other, user: {token: t3}}]
"""


def _write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_gives_server_namespace_and_absolute_paths(tmp_path: Path) -> None:
    access = find_access(_write(tmp_path, "one", ONE), environ={})

    assert (access.server, access.namespace, access.in_cluster) == (
        "https://one:6443",
        "shop",
        False,
    )
    assert access.config.cluster.certificate_auth == str(tmp_path / "ca.crt")


def test_of_several_files_the_first_to_name_a_thing_wins(tmp_path: Path) -> None:
    files = f"{_write(tmp_path, 'one', ONE)}:{_write(tmp_path, 'two', TWO)}:/none"

    access = find_access(environ={"KUBECONFIG": files})
    second = find_access(context="two", environ={"KUBECONFIG": files})

    assert access.server == "https://one:6443"
    assert second.server == "https://two:6443"
    assert second.config.user is not None
    assert second.config.user.token == "t1"


def test_a_pod_uses_its_account_unless_a_file_is_named(tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.mkdir()
    for name, text in (("token", "t"), ("namespace", "mesh"), ("ca.crt", "x")):
        _write(account, name, text)
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}

    with pytest.MonkeyPatch.context() as patch:
        for name, text in environ.items():
            patch.setenv(name, text)
        access = find_access(environ=environ, service_account=str(account))
        named = find_access(
            _write(tmp_path, "one", ONE), environ=environ, service_account=str(account)
        )

    assert (access.in_cluster, access.server, access.namespace) == (
        True,
        "https://10.96.0.1:443",
        "mesh",
    )
    assert access.config.user is not None
    assert access.config.user.token_file == str(account / "token")
    assert named.server == "https://one:6443"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", "expected a mapping"),
        ("{: :", "cannot be read"),
        ("current-context: nope", "nope"),
        ("clusters: []", "context"),
        (ONE.replace("cluster: one,", "cluster: gone,"), "gone"),
    ],
)
def test_a_file_that_does_not_say_where_is_one_clear_error(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        find_access(_write(tmp_path, "bad", text), environ={})


def test_nothing_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set KUBECONFIG or pass --kubeconfig"):
        find_access(environ={"HOME": str(tmp_path)})


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_plugin_is_told_which_version_to_answer_in(tmp_path: Path, version: str) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        f'case "$KUBERNETES_EXEC_INFO" in *client.authentication.k8s.io/{version}\\"*) ;;'
        " *) exit 1 ;; esac\n"
        'echo "{\\"status\\": {\\"token\\": \\"from-plugin\\"}}"\n'
    )
    plugin.chmod(0o755)

    async def act() -> str:
        async with serving(answer({"major": "1"})) as (client, script):
            text = ONE.replace("https://one:6443", client.access.server).replace(
                "{token: t1}",
                f"{{exec: {{apiVersion: client.authentication.k8s.io/{version}, "
                f"command: {plugin}}}}}",
            )
            text = text.replace(", certificate-authority: ca.crt", "")
            async with KubeClient(find_access(_write(tmp_path, "one", text), environ={})) as kube:
                await kube.version()
            return script.requests[0].headers["Authorization"]

    assert asyncio.run(act()) == "Bearer from-plugin"


def test_a_plugin_that_is_missing_is_an_api_error(tmp_path: Path) -> None:
    text = ONE.replace(
        "{token: t1}",
        "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /no/such/plugin}}",
    ).replace(", certificate-authority: ca.crt", "")

    async def act() -> None:
        async with KubeClient(find_access(_write(tmp_path, "one", text), environ={})) as kube:
            await kube.version()

    with pytest.raises(ApiError, match=r"no credentials to send: .*/no/such/plugin") as caught:
        asyncio.run(act())

    assert (caught.value.code, caught.value.reason) == (0, NO_CREDENTIALS)


def test_a_missing_client_certificate_is_named(tmp_path: Path) -> None:
    text = ONE.replace("{token: t1}", "{client-certificate: me.crt, client-key: me.key}")
    text = text.replace(", certificate-authority: ca.crt", "")
    (tmp_path / "me.key").touch()

    with pytest.raises(ConfigError) as caught:
        KubeClient(find_access(_write(tmp_path, "one", text), environ={}))

    assert str(caught.value) == (
        f"access to https://one:6443: {tmp_path}/me.crt does not exist; check the kubeconfig"
    )


def test_a_server_of_another_authority_is_told_apart_from_one_that_is_away(tmp_path: Path) -> None:
    async def act() -> None:
        async with embedded_api(tmp_path) as api:
            config = yaml.safe_load(api.kubeconfig.read_text())
            other = base64.b64encode(TrustChain().bundle.encode()).decode()
            config["clusters"][0]["cluster"]["certificate-authority-data"] = other
            config["clusters"][0]["cluster"].pop("certificate-authority", None)
            path = _write(tmp_path, "other", yaml.safe_dump(config))
            async with KubeClient(find_access(path, environ={})) as kube:
                await kube.version()

    with pytest.raises(ApiError, match="the API server's certificate is not trusted") as caught:
        asyncio.run(act())

    assert (caught.value.code, caught.value.reason) == (0, UNTRUSTED)
