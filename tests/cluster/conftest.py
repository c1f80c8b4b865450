"""The API server of a test session, started when the first test asks for it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.cache import BuildError
from tests.cluster.server import ApiServer, ServerError, running_api_server

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
Mesh = Callable[..., "subprocess.CompletedProcess[str]"]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real kube-apiserver; building it the first time takes minutes."""
    try:
        with running_api_server(tmp_path_factory.mktemp("api") / "server") as server:
            yield server
    except (BuildError, ServerError) as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def kubectl(api_server: ApiServer) -> Kubectl:
    """`kubectl(*arguments, given=stdin, user=, groups=)` against the server, as admin or a user.

    A failing command is returned, not raised.
    """
    path = shutil.which("kubectl")
    if path is None:
        pytest.fail("kubectl is not in PATH: install 1.28 or newer", pytrace=False)

    def run(
        *arguments: str, given: str = "", user: str = "", groups: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        config = api_server.kubeconfig(user, groups) if user else api_server.admin
        return subprocess.run(
            [path, f"--kubeconfig={config}", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture(scope="session")
def mesh(api_server: ApiServer) -> Mesh:
    """`mesh(*arguments, given=stdin)` against the server, as administrator."""
    environment = {**os.environ, "KUBECONFIG": str(api_server.admin)}

    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mesh", *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    """A namespace of this test's own, with the default service account that pods need."""
    name = f"test-{next(_numbers)}"
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        },
    ]
    for item in made:
        done = kubectl("create", "-f", "-", given=json.dumps(item))
        assert done.returncode == 0, done.stderr
    return name
