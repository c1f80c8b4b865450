"""An update in the words of an older proxy: what it does not know is refused, never ignored.

A proxy ignores fields that it does not know. One that changes where a request goes, or what it
says, must not be lost that way: its rule becomes one that answers with an error, for at least
the requests that it was meant for. Timeouts, retries, budgets and breakers are left out, as an
older proxy has none. Pure.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from mesh.core.model import BY_CONNECTION, Backend, Match, Rule, Target, Update

_REFUSED: Final = Backend("refused.invalid:0")  # no such Service: answered with 503
_MATCH_1: Final = frozenset(("path", "path_prefix", "path_regex", "method", "headers"))
_EMPTY: Final = Match()


def for_wire(update: Update, wire: int) -> Update:
    """The update for a proxy of this wire version; itself for one that knows all of it."""
    if wire >= 2 or not update.targets:
        return update
    targets = {
        address: None if target is None else _target(target)
        for address, target in update.targets.items()
    }
    return replace(update, targets=targets)


def _target(target: Target) -> Target:
    rules = tuple(_rule(rule) for rule in target.rules)
    if target.connections:
        # Version 1 sends connections that it does not read where the last rule says.
        if target.protocol in BY_CONNECTION:
            rules = tuple(_rule(rule) for rule in target.connections)
        else:
            rules += (Rule((_REFUSED,)),)
    return replace(target, rules=rules, connections=(), budget=None)


def _rule(rule: Rule) -> Rule:
    matches = tuple(_match(match) for match in rule.matches)
    backends = tuple(_backend(backend) for backend in rule.backends)
    is_known = (
        matches == rule.matches
        and rule.filters is None
        and all(backend.filters is None for backend in rule.backends)
    )
    return Rule(
        backends if is_known else (_REFUSED,),
        matches,
        source=rule.source,
        index=rule.index,
    )


def _match(match: Match) -> Match:
    """The parts of a match that version 1 knows: it holds for no fewer requests."""
    if match.ignore_case:
        match = replace(match, path=None, path_prefix=None)
    unknown = {
        name: getattr(_EMPTY, name) for name in Match.__struct_fields__ if name not in _MATCH_1
    }
    return replace(match, **unknown)


def _backend(backend: Backend) -> Backend:
    known = _REFUSED.authority if backend.refused else backend.authority
    return Backend(known, backend.weight)
