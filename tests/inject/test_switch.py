"""One switch in three dialects: who wins (C16 of the routing model)."""

from __future__ import annotations

import pytest

from mesh.inject.switch import ISTIO, LINKERD, decide


@pytest.mark.parametrize(
    ("pod", "namespace", "enabled", "level"),
    [
        ({}, {}, False, ""),
        ({"mesh/inject": "enabled"}, {}, True, "pod"),
        ({}, {"mesh/inject": "enabled"}, True, "namespace"),
        ({"mesh/inject": "disabled"}, {"mesh/inject": "enabled"}, False, "pod"),
        ({"mesh/inject": "enabled"}, {"mesh/inject": "disabled"}, True, "pod"),
        ({"linkerd.io/inject": "enabled"}, {"linkerd.io/inject": "disabled"}, True, "pod"),
        ({"linkerd.io/inject": "ingress"}, {}, True, "pod"),
        ({"sidecar.istio.io/inject": "true"}, {}, True, "pod"),
        ({}, {"istio-injection": "enabled"}, True, "namespace"),
        ({"sidecar.istio.io/inject": "false"}, {"istio-injection": "enabled"}, False, "pod"),
        # Istio's own rule: a namespace that says disabled is final, for Istio's dialect
        ({"sidecar.istio.io/inject": "true"}, {"istio-injection": "disabled"}, False, "namespace"),
        ({"linkerd.io/inject": "enabled"}, {"istio-injection": "disabled"}, True, "pod"),
        # two foreign dialects on one level: disabled wins
        ({"linkerd.io/inject": "enabled", "sidecar.istio.io/inject": "false"}, {}, False, "pod"),
        ({}, {"linkerd.io/inject": "disabled", "istio-injection": "enabled"}, False, "namespace"),
        # ours speaks for itself beside another mesh's
        ({"mesh/inject": "enabled", "sidecar.istio.io/inject": "false"}, {}, True, "pod"),
        ({"mesh/inject": "disabled", "linkerd.io/inject": "enabled"}, {}, False, "pod"),
    ],
)
def test_the_nearest_word_wins(
    pod: dict[str, str], namespace: dict[str, str], enabled: bool, level: str
) -> None:
    verdict = decide(pod, namespace)

    assert (verdict.enabled, verdict.level) == (enabled, level)


def test_a_value_that_is_no_word_counts_as_disabled_and_is_told() -> None:
    verdict = decide({"mesh/inject": "yes"}, {"mesh/inject": "enabled"})

    assert not verdict.enabled
    assert verdict.problems == (
        'mesh/inject: expected enabled or disabled, got "yes"; taken as disabled',
    )


@pytest.mark.parametrize(
    ("name", "family"), [("linkerd.io/inject", LINKERD), ("sidecar.istio.io/inject", ISTIO)]
)
def test_beside_its_own_injector_a_dialect_does_not_count(name: str, family: str) -> None:
    assert decide({name: "true"}, {}).enabled
    assert not decide({name: "true"}, {}, foreign=frozenset({family})).enabled
    assert decide({"mesh/inject": "enabled"}, {}, foreign=frozenset({family})).enabled
