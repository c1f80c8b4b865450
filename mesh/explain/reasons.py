"""Why a condition is or is not met, part by part, by the evaluator's own tests; pure.

Nothing here decides: each part of a condition is compiled and asked by `mesh.core.match`,
the code that the proxy runs, and only the words are made here.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from mesh.core.match import (
    CompilePattern,
    Head,
    compile_condition,
    compile_matches,
    compile_names,
    parameter,
)
from mesh.core.model import Condition, Match, Rule


def why_unmet(condition: Condition, head: Head, pattern: CompilePattern) -> str:
    """The part of a route class's condition that the request fails; "" when it is met."""
    if compile_condition(condition, pattern)(head):
        return ""
    for part in _single_parts(condition):
        if compile_condition(part, pattern)(head):
            continue
        if part.all is not None:
            reasons = (why_unmet(item, head, pattern) for item in part.all)
            return next((reason for reason in reasons if reason), "all of nothing")
        if part.any is not None:
            reasons = (why_unmet(item, head, pattern) for item in part.any)
            return "none of: " + "; ".join(reasons)
        if part.negated is not None:
            return f"not ({describe(part.negated)}), but that holds"
        return _plain_reason(part, head)
    return "its condition is not met"


def why_no_match(rule: Rule, head: Head, pattern: CompilePattern) -> str:
    """What the request fails in each match of a rule; "" when the rule is met."""
    test = compile_matches(rule.matches, pattern)
    if test is None or test(head):
        return ""
    return "; ".join(_match_reason(match, head, pattern) for match in rule.matches)


def why_no_name(rule: Rule, name: str) -> str:
    """Why a connection with this server name ("" without one) does not meet a rule, else ""."""
    test = compile_names(rule.matches)
    if test is None or test(name.lower()):
        return ""
    wanted = ", ".join(known or "none" for match in rule.matches for known in match.sni)
    return f"expected server name {wanted}; got {name or 'none'}"


def describe(condition: Condition) -> str:
    """A condition in a few words: `GET /items/.*`."""
    words = []
    if condition.all is not None:
        words.append(" and ".join(describe(part) for part in condition.all))
    if condition.any is not None:
        words.append(" or ".join(describe(part) for part in condition.any))
    if condition.negated is not None:
        words.append(f"not ({describe(condition.negated)})")
    words += [text for text in (condition.method, condition.path, condition.path_regex) if text]
    if condition.status_min is not None or condition.status_max is not None:
        words.append(f"status {condition.status_min} to {condition.status_max}")
    return " ".join(words)


def _single_parts(condition: Condition) -> list[Condition]:
    """The condition as conditions of one part each."""
    status = replace(Condition(), status_min=condition.status_min, status_max=condition.status_max)
    single = [
        replace(Condition(), **{name: value})
        for name in Condition.__struct_fields__
        if not name.startswith("status")
        for value in (getattr(condition, name),)
        if value is not None
    ]
    return single if status == Condition() else [*single, status]


def _plain_reason(part: Condition, head: Head) -> str:
    if part.method is not None:
        return f"method {head.method} is not {part.method}"
    if part.path is not None:
        return f'path "{head.path}" is not "{part.path}"'
    if part.path_regex is not None:
        return f'path "{head.path}" does not match {part.path_regex}'
    return "a status is no condition on requests"


def _match_reason(match: Match, head: Head, pattern: CompilePattern) -> str:
    for part, text in _match_parts(match, head):
        test = compile_matches((part,), pattern)
        if test is not None and not test(head):
            return text
    return "its match is not met"


def _match_parts(match: Match, head: Head) -> Iterator[tuple[Match, str]]:
    """The match as matches of one part each, with the words for a request that fails it."""
    folded = match.ignore_case
    shown = f'path "{head.path}"'
    yield Match(path=match.path, ignore_case=folded), f'{shown} is not "{match.path}"'
    under = f'{shown} is not under "{match.path_prefix}"'
    yield Match(path_prefix=match.path_prefix, ignore_case=folded), under
    start = f'{shown} does not begin with "{match.path_start}"'
    yield Match(path_start=match.path_start, ignore_case=folded), start
    yield Match(path_regex=match.path_regex), f"{shown} does not match {match.path_regex}"
    yield Match(method=match.method), f"method {head.method} is not {match.method}"
    for header in match.headers:
        values = ", ".join(head.values(header.name.lower())) or "absent"
        verb = "does not match" if header.regex else "is not"
        yield (
            Match(headers=(header,)),
            f"header {header.name} ({values}) {verb} {header.value}",
        )
    for header in match.without_headers:
        yield (
            Match(without_headers=(header,)),
            f"header {header.name} is there with {header.value}",
        )
    for wanted in match.query:
        value = parameter(head.query, wanted.name)
        verb = "does not match" if wanted.regex else "is not"
        given = "absent" if value is None else value
        yield (
            Match(query=(wanted,)),
            f"parameter {wanted.name} ({given}) {verb} {wanted.value}",
        )
    if match.also is not None:
        yield from _match_parts(match.also, head)
