"""securityContext to credentials."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.node.capabilities import DEFAULT, NAMES, CreateError, capability_set, credentials


def names(numbers: frozenset[int]) -> set[str]:
    return {NAMES[number] for number in numbers}


def test_drop_all_and_add_leaves_what_was_added() -> None:
    found = capability_set({"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]})

    assert names(found) == {"NET_ADMIN", "NET_RAW"}


def test_nothing_asked_is_the_runtime_default() -> None:
    assert capability_set({}) == DEFAULT
    assert "NET_ADMIN" not in names(DEFAULT)


def test_add_all_less_one() -> None:
    assert names(capability_set({"add": ["ALL"], "drop": ["SYS_ADMIN"]})) == {
        name for name in NAMES if name != "SYS_ADMIN"
    }


def test_an_unknown_capability_is_named() -> None:
    with pytest.raises(CreateError, match='no capability is called "FLY"'):
        capability_set({"add": ["FLY"]})


def test_the_container_overrides_the_pod_and_groups_are_joined() -> None:
    pod: dict[str, Any] = {
        "securityContext": {"runAsUser": 1, "runAsGroup": 7, "fsGroup": 9, "runAsNonRoot": True}
    }

    found = credentials(pod, {"securityContext": {"runAsUser": 2102}})

    assert (found.uid, found.gid, found.groups) == (2102, 7, (7, 9))
    assert not found.no_new_privileges


def test_run_as_non_root_refuses_root() -> None:
    with pytest.raises(CreateError, match="runAsNonRoot"):
        credentials({"securityContext": {"runAsNonRoot": True}}, {})


def test_no_escalation_means_no_new_privileges() -> None:
    context = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}

    found = credentials({}, {"securityContext": context})

    assert found.no_new_privileges
    assert found.readonly_root
