"""TrafficSplits as users write them, and the routes that come of them."""

from __future__ import annotations

import pytest

from mesh.core.model import HeaderMatch, Verdict
from tests.destination.world import World, deployed, load, reasons, service, shares

APEX = "10.96.0.1:80"


def _world(text: str, *more: dict[str, object]) -> World:
    return World(
        [
            *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1"),
            *deployed("web-v1", ip="10.96.0.2", pod_ip="10.1.0.2"),
            *deployed("web-v2", ip="10.96.0.3", pod_ip="10.1.0.3"),
            *more,
            *load(text),
        ]
    )


def _split(backends: str, *, api: str = "split.smi-spec.io/v1alpha1", more: str = "") -> str:
    return f"""
apiVersion: {api}
kind: TrafficSplit
metadata: {{name: web, namespace: shop}}
spec:
  service: web
  {backends}
  {more}
"""


V1_V2 = "backends: [{service: web-v1, weight: 900m}, {service: web-v2, weight: 100m}]"


@pytest.mark.parametrize(
    ("api", "backends"),
    [
        ("split.smi-spec.io/v1alpha1", V1_V2),
        (
            "split.smi-spec.io/v1alpha2",
            "backends: [{service: web-v1, weight: 90}, {service: web-v2, weight: 10}]",
        ),
        (
            "split.smi-spec.io/v1alpha3",
            'backends: [{service: web-v1, weight: "0.9"}, {service: web-v2, weight: "0.1"}]',
        ),
        (
            "split.smi-spec.io/v1alpha4",
            "backends: [{service: web-v1.shop, weight: 9}, "
            "{service: web-v2.shop.svc.cluster.local, weight: 1}]",
        ),
        (
            "linkerd.io/v1alpha2",
            "allocation: [{service: web-v1, weight: 900m}, {service: web-v2, weight: 0.1}]",
        ),
    ],
)
def test_each_version_and_spelling_gives_the_same_shares(api: str, backends: str) -> None:
    world = _world(_split(backends, api=api))

    assert shares(world.target(APEX)) == {"web-v1:80": 9, "web-v2:80": 1}
    assert world.outcome("", "web").verdict is Verdict.EFFECTIVE
    assert str(world.target(APEX).rules[0].source) == "TrafficSplit/shop/web"


def test_the_services_of_all_leaves_come_with_the_view() -> None:
    world = _world(_split(V1_V2))

    assert {(s.name, s.port, len(s.endpoints)) for s in world.services(APEX)} == {
        ("web-v1", 80, 1),
        ("web-v2", 80, 1),
    }


def test_a_leaf_itself_is_not_split() -> None:
    world = _world(_split(V1_V2))

    assert shares(world.target("10.96.0.2:80")) == {"web-v1:80": 1}


def test_weight_0_stays_as_a_backend_that_gets_nothing() -> None:
    world = _world(_split("backends: [{service: web-v1, weight: 1}, {service: web-v2, weight: 0}]"))

    assert shares(world.target(APEX)) == {"web-v1:80": 1, "web-v2:80": 0}


def test_all_weights_0_are_said() -> None:
    world = _world(_split("backends: [{service: web-v1, weight: 0}]"))

    assert reasons(world.outcome("trafficsplits", "web")) == [("spec.backends", "AllWeightsZero")]


def test_the_apex_may_be_a_leaf_of_its_own_split() -> None:
    world = _world(_split("backends: [{service: web, weight: 3}, {service: web-v2, weight: 1}]"))

    assert shares(world.target(APEX)) == {"web:80": 3, "web-v2:80": 1}
    assert world.outcome("trafficsplits", "web").verdict is Verdict.EFFECTIVE


def test_the_share_of_a_missing_leaf_stays_and_is_said() -> None:
    world = _world(_split("backends: [{service: web-v1, weight: 1}, {service: nope, weight: 1}]"))

    outcome = world.outcome("trafficsplits", "web")

    assert shares(world.target(APEX)) == {"web-v1:80": 1, "nope:80": 1}
    assert [s.exists for s in world.services(APEX) if s.name == "nope"] == [False]
    assert outcome.verdict is Verdict.PARTIAL
    assert reasons(outcome) == [("spec.backends[1].service", "NoSuchService")]


def test_a_missing_leaf_that_comes_takes_its_share() -> None:
    world = _world(_split("backends: [{service: web-v1, weight: 1}, {service: late, weight: 1}]"))

    world.put(*deployed("late", ip="10.96.0.9", pod_ip="10.1.0.9"))

    assert [len(s.endpoints) for s in world.services(APEX)] == [1, 1]
    assert world.outcome("trafficsplits", "web").verdict is Verdict.EFFECTIVE


def test_a_leaf_without_the_port_of_the_apex_is_said() -> None:
    world = _world(
        _split("backends: [{service: web-v1, weight: 1}, {service: other, weight: 1}]"),
        service("other", {"http": 8080}, ip="10.96.0.8"),
    )

    outcome = world.outcome("trafficsplits", "web")

    assert reasons(outcome) == [("spec.backends[1].service", "PortMismatch")]
    assert [(s.exists, s.endpoints) for s in world.services(APEX) if s.name == "other"] == [
        (True, ())
    ]


def test_the_oldest_of_two_splits_wins_and_the_other_names_it() -> None:
    world = _world(
        """
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: a-young, namespace: shop, creationTimestamp: "2026-02-02T00:00:00Z"}
spec: {service: web, backends: [{service: web-v2, weight: 1}]}
---
apiVersion: linkerd.io/v1alpha2
kind: TrafficSplit
metadata: {name: old, namespace: shop, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {service: web, backends: [{service: web-v1, weight: 1}]}
"""
    )

    young = world.outcome("trafficsplits", "a-young")

    assert shares(world.target(APEX)) == {"web-v1:80": 1}
    assert young.verdict is Verdict.SHADOWED
    assert str(young.shadowed_by) == "TrafficSplit/shop/old"
    assert world.outcome("linkerdtrafficsplits", "old").verdict is Verdict.EFFECTIVE


def test_of_splits_of_the_same_second_the_first_by_name_wins_whatever_its_group() -> None:
    world = _world(
        """
apiVersion: linkerd.io/v1alpha2
kind: TrafficSplit
metadata: {name: b, namespace: shop, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {service: web, backends: [{service: web-v2, weight: 1}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: a, namespace: shop, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {service: web, backends: [{service: web-v1, weight: 1}]}
"""
    )

    assert shares(world.target(APEX)) == {"web-v1:80": 1}


def test_the_next_oldest_takes_over_when_the_winner_goes() -> None:
    young, old = load(
        _split("backends: [{service: web-v2, weight: 1}]").replace("name: web,", "name: young,")
        + "---"
        + _split("backends: [{service: web-v1, weight: 1}]")
    )
    young["metadata"]["creationTimestamp"] = "2026-02-02T00:00:00Z"
    old["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    world = _world("", young, old)

    world.put(old, deleted=True)

    assert shares(world.target(APEX)) == {"web-v2:80": 1}
    assert world.outcome("trafficsplits", "young").verdict is Verdict.EFFECTIVE


def _group(name: str, matches: str) -> str:
    return f"""
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: {name}, namespace: shop}}
spec: {{matches: {matches}}}
"""


CANARY = "[{name: canary, methods: [GET, HEAD], pathRegex: /api/.*, headers: {X-Canary: '1|yes'}}]"


def test_a_split_with_matches_acts_on_these_requests_only() -> None:
    limited = _split(V1_V2, more="matches: [{kind: HTTPRouteGroup, name: canary}]")
    world = _world(limited + _group("canary", CANARY))

    limit, rest = world.target(APEX).rules

    assert [backend.authority.partition(".")[0] for backend in limit.backends] == [
        "web-v1",
        "web-v2",
    ]
    assert [match.method for match in limit.matches] == ["GET", "HEAD"]
    assert limit.matches[0].path_regex == "/api/.*"
    assert limit.matches[0].headers == (HeaderMatch("x-canary", "1|yes", regex=True),)
    assert rest.matches == ()
    assert shares(world.target(APEX)) == {"web:80": 1}
    assert world.outcome("trafficsplits", "web").verdict is Verdict.EFFECTIVE
    assert world.outcome("httproutegroups", "canary").verdict is Verdict.EFFECTIVE


def test_splits_with_matches_go_before_the_one_for_all() -> None:
    limited = _split(V1_V2, more="matches: [{kind: HTTPRouteGroup, name: canary}]")
    everything = _split("backends: [{service: web-v2, weight: 1}]").replace(
        "name: web,", "name: z,"
    )
    world = _world(limited + _group("canary", CANARY) + "---" + everything)

    first, last = world.target(APEX).rules

    assert first.matches
    assert [backend.authority.partition(".")[0] for backend in last.backends] == ["web-v2"]
    verdicts = [world.outcome("trafficsplits", name).verdict for name in ("web", "z")]
    assert verdicts == [Verdict.EFFECTIVE, Verdict.EFFECTIVE]


def test_a_split_waits_for_its_group() -> None:
    limited = _split(V1_V2, more="matches: [{kind: HTTPRouteGroup, name: canary}]")
    world = _world(limited)
    before = world.outcome("trafficsplits", "web")
    (group,) = load(_group("canary", CANARY))

    world.put(group)
    during = world.target(APEX).rules
    world.put(group, deleted=True)

    assert before.verdict is Verdict.REJECTED
    assert reasons(before) == [("spec.matches[0].name", "NoSuchRouteGroup")]
    assert len(during) == 2
    assert shares(world.target(APEX)) == {"web:80": 1}


@pytest.mark.parametrize(
    ("matches", "path", "reason"),
    [
        ("[]", "spec.matches", "Malformed"),
        ("[{pathRegex: '['}]", "spec.matches[0].pathRegex", "InvalidRegex"),
        ("[{path: /x}]", "spec.matches[0].path", "Malformed"),
        ("[{methods: []}]", "spec.matches[0].methods", "Malformed"),
        ("[{methods: [5]}]", "spec.matches[0].methods[0]", "Malformed"),
        ("[{headers: {a: 5}}]", "spec.matches[0].headers.a", "Malformed"),
        ("[{headers: [{a: '('}]}]", "spec.matches[0].headers[0].a", "InvalidRegex"),
    ],
)
def test_a_group_that_does_not_read_stops_the_splits_that_name_it(
    matches: str, path: str, reason: str
) -> None:
    limited = _split(V1_V2, more="matches: [{kind: HTTPRouteGroup, name: canary}]")
    world = _world(limited + _group("canary", matches))

    assert shares(world.target(APEX)) == {"web:80": 1}
    assert (path, reason) in reasons(world.outcome("httproutegroups", "canary"))
    assert world.outcome("trafficsplits", "web").verdict is Verdict.REJECTED


def test_a_group_beside_its_metadata_reads_as_well() -> None:
    group = """
---
apiVersion: specs.smi-spec.io/v1alpha1
kind: HTTPRouteGroup
metadata: {name: canary, namespace: shop}
matches: [{name: a, methods: ["*"], pathRegex: ".*"}]
"""
    limited = _split(V1_V2, more="matches: [{kind: HTTPRouteGroup, name: canary}]")
    world = _world(limited + group)

    assert shares_of_first(world) == ["web-v1", "web-v2"]


def shares_of_first(world: World) -> list[str]:
    return [b.authority.partition(".")[0] for b in world.target(APEX).rules[0].backends]


@pytest.mark.parametrize(
    ("matches", "path"),
    [
        ("[{kind: TCPRoute, name: x}]", "spec.matches[0].kind"),
        ("[{kind: HTTPRouteGroup}]", "spec.matches[0].name"),
        ("[5]", "spec.matches[0]"),
        ("{}", "spec.matches"),
    ],
)
def test_matches_that_do_not_read_reject_the_split(matches: str, path: str) -> None:
    world = _world(_split(V1_V2, more=f"matches: {matches}"))

    assert shares(world.target(APEX)) == {"web:80": 1}
    assert path in [found for found, _ in reasons(world.outcome("trafficsplits", "web"))]


@pytest.mark.parametrize(
    ("spec", "path", "reason"),
    [
        ("{service: web, backends: []}", "spec.backends", "NoBackends"),
        ("{service: web}", "spec.backends", "NoBackends"),
        ("{backends: [{service: web-v1, weight: 1}]}", "spec.service", "Malformed"),
        ("{service: web, backends: [{service: web-v1}]}", "spec.backends[0].weight", None),
        (
            "{service: web, backends: [{service: web-v1, weight: -1}]}",
            "spec.backends[0].weight",
            "InvalidWeight",
        ),
        (
            "{service: web, backends: [{service: web-v1, weight: lots}]}",
            "spec.backends[0].weight",
            "InvalidWeight",
        ),
        ("{service: web, backends: [web-v1]}", "spec.backends[0]", "Malformed"),
        ("{service: web, backends: 7}", "spec.backends", "Malformed"),
        ("web", "spec", "Malformed"),
        ("{service: web.other, backends: [{service: a, weight: 1}]}", "spec.service", None),
    ],
)
def test_what_does_not_read_rejects_its_split_and_leaves_the_service_alone(
    spec: str, path: str, reason: str | None
) -> None:
    world = _world(
        "{apiVersion: split.smi-spec.io/v1alpha4, kind: TrafficSplit, "
        f"metadata: {{name: web, namespace: shop}}, spec: {spec}}}"
    )

    outcome = world.outcome("trafficsplits", "web")

    assert outcome.verdict is Verdict.REJECTED
    assert path in [found for found, _ in reasons(outcome)]
    assert reason is None or (path, reason) in reasons(outcome)
    assert shares(world.target(APEX)) == {"web:80": 1}


def test_an_unknown_field_is_named_with_the_likely_one() -> None:
    world = _world(_split(V1_V2, more="backend: []"))

    outcome = world.outcome("trafficsplits", "web")

    assert outcome.verdict is Verdict.PARTIAL
    assert "did you mean backends?" in outcome.problems[0].message


@pytest.mark.parametrize(
    ("apex", "reason"),
    [
        (service("web", ip="None"), "HeadlessApex"),
        (service("web", ip="", type="ExternalName", externalName="x.example"), "ExternalService"),
        (None, "NoSuchService"),
    ],
)
def test_an_apex_that_cannot_be_split_is_said(apex: dict[str, object] | None, reason: str) -> None:
    world = World([*([apex] if apex else []), *load(_split(V1_V2))])

    outcome = world.outcome("trafficsplits", "web")

    assert outcome.verdict is Verdict.REJECTED
    assert ("spec.service", reason) in reasons(outcome)


def test_a_leaf_with_a_split_of_its_own_is_noted() -> None:
    inner = _split("backends: [{service: web-v2, weight: 1}]").replace("web\n", "web-v1\n")
    world = _world(_split(V1_V2) + "---" + inner.replace("name: web,", "name: inner,"))

    outcome = world.outcome("trafficsplits", "web")

    assert ("spec.backends[0].service", "NotRecursive") in reasons(outcome)
    assert outcome.verdict is Verdict.EFFECTIVE
    assert shares(world.target(APEX)) == {"web-v1:80": 9, "web-v2:80": 1}


def test_very_fine_weights_stay_small_numbers_of_the_same_proportion() -> None:
    world = _world(
        _split("backends: [{service: web-v1, weight: 1E}, {service: web-v2, weight: 1n}]")
    )

    assert shares(world.target(APEX)) == {"web-v1:80": 1_000_000, "web-v2:80": 1}
