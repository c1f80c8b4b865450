"""`mesh local` as typed: which cluster it means, and what it says of bad manifests."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesh.cli import cli
from mesh.core.errors import ConfigError, MeshError
from mesh.local.documents import read_objects
from mesh.local.node import record
from tests.proxy.world import on_loop
from tests.support.embedded_api import EmbeddedApi, embedded_api

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


def _note(state: Path) -> None:
    state.mkdir()
    record.begun(state, os.getpid(), {"pods": "10.1.0.0/16", "services": "10.2.0.0/16"})
    record.ready(state)


@contextlib.asynccontextmanager
async def cluster_in(state: Path) -> AsyncIterator[EmbeddedApi]:
    """A state folder whose cluster runs: here this process."""
    _note(state)
    async with embedded_api(state) as api:
        yield api


async def mesh(*arguments: str, text: str = CONFIG_MAP, kubeconfig: str = "") -> Result:
    """Run one command in a thread, with $KUBECONFIG."""
    runner = CliRunner(env={"KUBECONFIG": kubeconfig, "XDG_STATE_HOME": "/nonexistent"})
    return await asyncio.to_thread(runner.invoke, cli, arguments, input=text)


@on_loop
async def test_the_state_folder_wins_over_kubeconfig(tmp_path: Path) -> None:
    production = tmp_path / "production"
    production.write_text("clusters: []")
    async with cluster_in(tmp_path / "state"):
        state = ("--state", str(tmp_path / "state"))
        done = await mesh("local", "apply", *state, "-f", "-", kubeconfig=str(production))
        again = await mesh("local", "apply", *state, "-f", "-", kubeconfig=str(production))
    assert (done.exit_code, done.output) == (0, "configmap/x created\n")
    assert again.output == "configmap/x unchanged\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mesh:1", 'expected NAME=FOLDER, got "mesh:1"'),
        ("mesh:1=/nonexistent", "pip install --no-deps --target /nonexistent WHEEL"),
    ],
)
@on_loop
async def test_an_image_is_a_name_and_a_folder_of_packages(given: str, words: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mesh local needs root")

    done = await mesh("local", "up", "--state", "/nonexistent/state", "--image", given)

    assert done.exit_code != 0
    assert words in f"{done.output} {done.exception}"


@on_loop
async def test_kubeconfig_may_name_an_embedded_cluster(tmp_path: Path) -> None:
    async with cluster_in(tmp_path / "state") as api:
        found = await mesh("local", "kubeconfig", "--state", str(tmp_path / "state"))
        done = await mesh("local", "apply", "-f", "-", kubeconfig=str(api.kubeconfig))
    assert found.output.strip() == str(api.kubeconfig)
    assert (done.exit_code, done.output) == (0, "configmap/x created\n")


@on_loop
async def test_apply_never_reaches_a_cluster_of_others(tmp_path: Path) -> None:
    async with embedded_api(tmp_path) as api:  # no note says that it is ours
        done = await mesh("local", "apply", "-f", "-", kubeconfig=str(api.kubeconfig))
        assert api.api.store.list("configmaps", fields="metadata.name=x") == []
    assert isinstance(done.exception, ConfigError)
    assert "is no running cluster of mesh local: pass --state" in str(done.exception)


@pytest.mark.parametrize("command", [["kubeconfig"], ["apply", "-f", "-"]])
@on_loop
async def test_a_stopped_cluster_is_told_with_the_command_that_starts_it(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "kubeconfig").write_text("clusters: []")
    done = await mesh("local", command[0], "--state", str(tmp_path), *command[1:])
    assert isinstance(done.exception, MeshError)
    assert str(done.exception) == (
        f"no cluster runs in {tmp_path}: start it with  mesh local up --state {tmp_path}"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kind: List\napiVersion: v1\n", "document 1: items: expected an object or a list"),
        (
            "kind: List\nitems: 5\n",
            "items: expected an object or a list of them, got 5",
        ),
        ("kind: List\nitems: [3]\n", "document 1: items[0]: expected an object"),
        ("3\n", "document 1: expected an object"),
        ("apiVersion: v1\nkind: [a]\n", "expected a text as kind, got ['a']"),
        ("kind: A\n", "expected a text as apiVersion, got None"),
        ("apiVersion: v1\nkind: A\nmetadata: 5\n", "expected an object as metadata, got 5"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: 5}\n", "a text as metadata.name, got 5"),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: 5}\n",
            "a text as metadata.namespace, got 5",
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a, annotations: 5}\n",
            "an object as metadata.annotations, got 5",
        ),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: .nan\n", "cannot be written as JSON"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: &x [*x]\n", "cannot be written as JSON"),
        ("a: [b\n", "expected YAML: line 2: did not find expected"),
        ("a: \x01\n", "expected YAML: "),
        ("[" * 100_000, "expected YAML: line 1: nested more than 100 levels deep"),
    ],
)
def test_what_is_no_object_is_told_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_objects(text, "stdin")
    assert str(caught.value).startswith("stdin: ")
    assert fault in str(caught.value)


def test_every_fault_of_a_file_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read_objects(f"{CONFIG_MAP}---\n3\n---\nkind: List\nitems: [4]\n", "a.yaml")
    assert [fault.partition(": expected")[0] for fault in caught.value.problems] == [
        "a.yaml: document 2",
        "a.yaml: document 3: items[0]",
    ]


@on_loop
async def test_nothing_is_applied_of_a_file_with_a_fault(tmp_path: Path) -> None:
    async with cluster_in(tmp_path / "state") as api:
        state = str(tmp_path / "state")
        done = await mesh("local", "apply", "--state", state, "-f", "-", text=CONFIG_MAP + "---\n3")
        assert api.api.store.list("configmaps", fields="metadata.name=x") == []
    assert isinstance(done.exception, ConfigError)
