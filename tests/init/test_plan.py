"""Settings -> rules: whole plans as the tools print them, and the limits of a rule."""

from __future__ import annotations

import pytest

from init.plan import MULTIPORT_LIMIT, Family, plan_redirect
from init.prove import pick_target
from init.restore import Standing, spell_rule, write_plan
from init.settings import read_settings
from mesh.core.quantity import has_port

GOLDEN_DEFAULT = """\
*nat
:MESH_INIT_REDIRECT - [0:0]
:MESH_INIT_OUTPUT - [0:0]
-A MESH_INIT_REDIRECT -i lo -j RETURN
-A MESH_INIT_REDIRECT -p tcp -m multiport --dports 4191 -j RETURN
-A MESH_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 4143
-A MESH_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN
-A MESH_INIT_OUTPUT -o lo -j RETURN
-A MESH_INIT_OUTPUT -p tcp -m multiport --dports 53 -j RETURN
-A MESH_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140
-A PREROUTING -p tcp -j MESH_INIT_REDIRECT
-A OUTPUT -p tcp -j MESH_INIT_OUTPUT
COMMIT
"""

GOLDEN_SKIPS_V6 = """\
*nat
:MESH_INIT_REDIRECT - [0:0]
:MESH_INIT_OUTPUT - [0:0]
-A MESH_INIT_REDIRECT -i lo -j RETURN
-A MESH_INIT_REDIRECT -s fd00::/8 -j RETURN
-A MESH_INIT_REDIRECT -p tcp -m multiport --dports 25,4191,8000:8010 -j RETURN
-A MESH_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 4143
-A MESH_INIT_OUTPUT -m owner --uid-owner 65 -j RETURN
-A MESH_INIT_OUTPUT -o lo -j RETURN
-A MESH_INIT_OUTPUT -d 2001:db8::/32 -j RETURN
-A MESH_INIT_OUTPUT -p tcp -m multiport --dports 53,3306 -j RETURN
-A MESH_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140
-A PREROUTING -p tcp -j MESH_INIT_REDIRECT
-A OUTPUT -p tcp -j MESH_INIT_OUTPUT
COMMIT
"""


def test_the_default_is_the_same_for_both_families_and_v6_goes_first() -> None:
    plans = plan_redirect(read_settings({}))

    assert [plan.family for plan in plans] == [Family.V6, Family.V4]
    assert [write_plan(plan, Standing()) for plan in plans] == [GOLDEN_DEFAULT] * 2


def test_each_family_gets_the_subnets_of_its_own() -> None:
    v6, v4 = plan_redirect(
        read_settings(
            {
                "MESH_INIT_SKIP_INBOUND_PORTS": "8000-8010,25",
                "MESH_INIT_SKIP_OUTBOUND_PORTS": "3306",
                "MESH_INIT_SKIP_SUBNETS": "10.0.0.0/8,fd00::/8",
                "MESH_INIT_SKIP_OUTBOUND_SUBNETS": "2001:db8::/32",
                "MESH_INIT_PROXY_UID": "65",
            }
        )
    )

    assert write_plan(v6, Standing()) == GOLDEN_SKIPS_V6
    assert "-s 10.0.0.0/8" in write_plan(v4, Standing())
    assert "-d " not in write_plan(v4, Standing())


def test_a_long_port_list_is_cut_where_a_multiport_match_is_full() -> None:
    skipped = ",".join([*(str(port) for port in range(1000, 1040, 2)), "2000-2010", "3000-3010"])
    _, v4 = plan_redirect(read_settings({"MESH_INIT_SKIP_INBOUND_PORTS": skipped}))

    groups = [rule.ports for rule in v4.chains[0].rules if rule.ports]

    sizes = [sum(1 if low == high else 2 for low, high in group) for group in groups]
    assert sizes == [MULTIPORT_LIMIT, 10]
    assert [port for group in groups for port, _ in group] == sorted(
        [*range(1000, 1040, 2), 2000, 3000, 4191]
    )


def test_a_subnet_of_everything_is_a_rule_without_a_condition() -> None:
    _, v4 = plan_redirect(read_settings({"MESH_INIT_SKIP_SUBNETS": "0.0.0.0/0"}))

    assert spell_rule(v4.chains[0].rules[1]) == "-j RETURN"


@pytest.mark.parametrize("skipped", ["1404,20001", "1-60000"])
def test_the_proof_takes_a_port_that_is_not_skipped(skipped: str) -> None:
    settings = read_settings({"MESH_INIT_SKIP_OUTBOUND_PORTS": skipped})

    target = pick_target(Family.V4, settings)

    assert target is not None
    assert not has_port(settings.skip_outbound_ports, target[1])


def test_the_proof_takes_an_address_that_is_not_skipped() -> None:
    settings = read_settings({"MESH_INIT_SKIP_OUTBOUND_SUBNETS": "192.0.2.0/24,2001::/16"})

    assert pick_target(Family.V4, settings) == ("198.51.100.1", 1404)
    assert pick_target(Family.V6, settings) is None
