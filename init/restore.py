"""Rules <-> the text of `iptables-save` and `iptables-restore`. Pure.

`read_nat` takes any nat table and keeps what is ours; `write_plan` and `write_removal` give one
transaction that turns what stands into what shall stand, and never name a foreign rule.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from init.plan import CHAINS, FamilyPlan, Rule
from init.settings import Ports


@dataclass(frozen=True)
class Jump:
    """A rule outside our chains that leads into one: `spec` is its text after the chain name."""

    hook: str
    target: str
    spec: str
    rule: Rule | None


@dataclass(frozen=True)
class Standing:
    """What of ours stands in a nat table.

    A rule that is none of the forms we write reads as None, so it equals no plan.
    """

    chains: dict[str, tuple[Rule | None, ...]] = field(default_factory=dict)
    jumps: tuple[Jump, ...] = ()
    foreign: int = 0  # rules that are not ours

    def is_empty(self) -> bool:
        """Whether nothing of ours stands."""
        return not self.chains and not self.jumps

    def matches(self, plan: FamilyPlan) -> bool:
        """Whether exactly the plan stands: its chains, their rules in order, one jump to each."""
        return self.chains == {chain.name: chain.rules for chain in plan.chains} and sorted(
            ((jump.hook, jump.rule) for jump in self.jumps), key=_hook
        ) == sorted(((chain.hook, chain.jump) for chain in plan.chains), key=_hook)

    def difference(self, plan: FamilyPlan) -> str:
        """The first thing that differs from the plan, for an error message."""
        for chain in plan.chains:
            stands = self.chains.get(chain.name)
            if stands is None:
                return f"chain {chain.name} is missing"
            if stands != chain.rules:
                return f"chain {chain.name} has other rules than planned"
            jumps = [jump for jump in self.jumps if jump.target == chain.name]
            if [(jump.hook, jump.rule) for jump in jumps] != [(chain.hook, chain.jump)]:
                return f"{chain.hook} does not jump to {chain.name} exactly once"
        return "no difference"


def read_nat(saved: str) -> Standing:
    """What of ours is in the output of `iptables-save -t nat`."""
    chains: dict[str, list[Rule | None]] = {}
    jumps: list[Jump] = []
    foreign = 0
    for line in saved.splitlines():
        if line.startswith(":"):
            name = line[1:].split(" ", 1)[0]
            if name in CHAINS:
                chains.setdefault(name, [])
        elif line.startswith("-A "):
            _, chain, spec = line.split(" ", 2)
            words = _words(spec)
            target = next((b for a, b in _pairs(words) if a in ("-j", "-g")), "")
            if chain in CHAINS:
                chains.setdefault(chain, []).append(_parse(words))
            elif target in CHAINS:
                jumps.append(Jump(chain, target, spec, _parse(words)))
            else:
                foreign += 1
    return Standing({name: tuple(rules) for name, rules in chains.items()}, tuple(jumps), foreign)


def write_plan(plan: FamilyPlan, standing: Standing) -> str:
    """Input for `iptables-restore --noflush`: a chain that stands is emptied and filled anew.

    A jump that is right stays where it is; new ones go to the end of their hook, behind what
    others put there.
    """
    missing = {chain.hook: chain.jump for chain in plan.chains}
    lines = ["*nat"]
    lines += [f":{chain.name} - [0:0]" for chain in plan.chains]
    for jump in standing.jumps:
        if jump.rule is not None and jump.rule == missing.get(jump.hook):
            del missing[jump.hook]  # a second one like it is one too many
        else:
            lines.append(f"-D {jump.hook} {jump.spec}")
    for chain in plan.chains:
        lines += [f"-A {chain.name} {spell_rule(rule)}" for rule in chain.rules]
    lines += [f"-A {hook} {spell_rule(jump)}" for hook, jump in missing.items()]
    return "\n".join([*lines, "COMMIT", ""])


def write_removal(standing: Standing) -> str:
    """Input for `iptables-restore --noflush` that takes all of ours away."""
    lines = ["*nat"]
    lines += [f"-D {jump.hook} {jump.spec}" for jump in standing.jumps]
    lines += [f"-F {name}" for name in standing.chains]
    lines += [f"-X {name}" for name in standing.chains]
    return "\n".join([*lines, "COMMIT", ""])


def spell_rule(rule: Rule) -> str:
    """The rule in the words and order that `iptables-save` prints."""
    words = []
    if rule.source:
        words += ["-s", rule.source]
    if rule.destination:
        words += ["-d", rule.destination]
    if rule.in_interface:
        words += ["-i", rule.in_interface]
    if rule.out_interface:
        words += ["-o", rule.out_interface]
    if rule.tcp:
        words += ["-p", "tcp"]
    if rule.uid is not None:
        words += ["-m", "owner", "--uid-owner", str(rule.uid)]
    if rule.ports:
        words += ["-m", "multiport", "--dports", spell_ports(rule.ports)]
    words += ["-j", rule.target]
    if rule.to_port is not None:
        words += ["--to-ports", str(rule.to_port)]
    return " ".join(words)


def spell_ports(ranges: Ports) -> str:
    """Ports as a multiport match writes them: `80,8000:8010`."""
    return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in ranges)


def _hook(jump: tuple[str, Rule | None]) -> str:
    return jump[0]


def _parse(words: list[str]) -> Rule | None:
    """The rule behind the words of one saved line, or None if it has a part we never write."""
    parts: dict[str, str] = {}
    modules: set[str] = set()
    for option, value in _pairs(words):
        if option == "-m":
            modules.add(value)
        elif option in parts:
            return None
        else:
            parts[option] = value
    try:
        rule = Rule(
            parts.pop("-j"),
            tcp=parts.pop("-p", "") == "tcp",
            in_interface=parts.pop("-i", ""),
            out_interface=parts.pop("-o", ""),
            source=_network(parts.pop("-s", "")),
            destination=_network(parts.pop("-d", "")),
            uid=int(parts.pop("--uid-owner")) if "--uid-owner" in parts else None,
            ports=_ports(parts.pop("--dports", "") or parts.pop("--dport", "")),
            to_port=int(parts.pop("--to-ports")) if "--to-ports" in parts else None,
        )
    except (KeyError, ValueError):
        return None
    return None if parts or modules - {"owner", "multiport", "tcp"} else rule


def _words(spec: str) -> list[str]:
    """The words of a saved rule; comments are the only ones that come in quotes."""
    if '"' not in spec:
        return spec.split(" ")
    import shlex  # our own rules have no comments, so most pods never need it

    return shlex.split(spec)


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; a lone word, such as `!`, comes as an option of its own."""
    position = 0
    while position < len(words):
        word = words[position]
        if word.startswith("-") and position + 1 < len(words):
            yield word, words[position + 1]
            position += 2
        else:
            yield word, ""
            position += 1


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text)) if text else ""


def _ports(text: str) -> Ports:
    if not text:
        return ()
    ranges = []
    for item in text.split(","):
        low, colon, high = item.partition(":")
        ranges.append((int(low), int(high if colon else low)))
    return tuple(ranges)
