"""Saved tables -> what stands -> the transaction that is needed."""

from __future__ import annotations

from init.plan import Family, plan_redirect
from init.restore import Standing, read_nat, write_plan, write_removal
from init.settings import read_settings
from tests.init.test_plan import GOLDEN_DEFAULT

PLAN = plan_redirect(read_settings({}))[1]
OTHER_PLAN = plan_redirect(read_settings({"MESH_INIT_SKIP_INBOUND_PORTS": "25"}))[1]
FOREIGN = """\
:PREROUTING ACCEPT [0:0]
:THEIRS - [0:0]
-A PREROUTING -p tcp -m comment --comment "not -j MESH_INIT_REDIRECT here" -j THEIRS
-A THEIRS ! -s 10.0.0.0/8 -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.0.1
"""


def test_what_a_plan_writes_reads_back_as_that_plan() -> None:
    standing = read_nat(GOLDEN_DEFAULT)

    assert standing.matches(PLAN)
    assert not standing.matches(OTHER_PLAN)
    assert (
        standing.difference(OTHER_PLAN) == "chain MESH_INIT_REDIRECT has other rules than planned"
    )


def test_foreign_rules_are_counted_and_nothing_else() -> None:
    standing = read_nat(f"*nat\n{FOREIGN}COMMIT\n")

    assert standing.is_empty()
    assert standing.foreign == 2


def test_a_part_that_we_never_write_makes_a_rule_differ() -> None:
    for part in ("! -i lo", "-i lo -m conntrack --ctstate NEW", "-i lo -g", "-i lo -i eth0"):
        saved = GOLDEN_DEFAULT.replace("-i lo", part, 1)

        assert not read_nat(saved).matches(PLAN)


def test_rules_in_another_order_differ() -> None:
    lines = GOLDEN_DEFAULT.splitlines()
    lines[3], lines[5] = lines[5], lines[3]

    assert not read_nat("\n".join(lines)).matches(PLAN)


def test_a_second_jump_differs_and_is_taken_away() -> None:
    doubled = GOLDEN_DEFAULT.replace("COMMIT", "-A OUTPUT -p tcp -j MESH_INIT_OUTPUT\nCOMMIT")
    standing = read_nat(doubled)

    written = write_plan(PLAN, standing)

    assert not standing.matches(PLAN)
    assert written.count("-D OUTPUT -p tcp -j MESH_INIT_OUTPUT\n") == 1
    assert "-A OUTPUT" not in written


def test_a_jump_of_another_form_is_replaced() -> None:
    old = GOLDEN_DEFAULT.replace("-A OUTPUT -p tcp -j", "-A OUTPUT -j")

    written = write_plan(PLAN, read_nat(old))

    assert "-D OUTPUT -j MESH_INIT_OUTPUT\n" in written
    assert "-A OUTPUT -p tcp -j MESH_INIT_OUTPUT\n" in written


def test_other_settings_fill_the_chains_anew_and_keep_the_jumps() -> None:
    written = write_plan(OTHER_PLAN, read_nat(GOLDEN_DEFAULT))

    assert ":MESH_INIT_REDIRECT - [0:0]\n" in written
    assert "PREROUTING" not in written


def test_removal_names_all_of_ours_and_nothing_else() -> None:
    saved = f"*nat\n{FOREIGN}{GOLDEN_DEFAULT.removeprefix('*nat')}"

    assert write_removal(read_nat(saved)) == (
        "*nat\n"
        "-D PREROUTING -p tcp -j MESH_INIT_REDIRECT\n"
        "-D OUTPUT -p tcp -j MESH_INIT_OUTPUT\n"
        "-F MESH_INIT_REDIRECT\n-F MESH_INIT_OUTPUT\n"
        "-X MESH_INIT_REDIRECT\n-X MESH_INIT_OUTPUT\n"
        "COMMIT\n"
    )


def test_nothing_stands_in_an_empty_table() -> None:
    assert read_nat("") == Standing()
    assert Family.V6.tools == "ip6tables"


def test_a_single_port_in_the_words_of_another_match_is_the_same_rule() -> None:
    saved = GOLDEN_DEFAULT.replace("-m multiport --dports 53", "-m tcp --dport 53")

    assert read_nat(saved).matches(PLAN)
