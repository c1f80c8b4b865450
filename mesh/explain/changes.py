"""What filters make of one request, in words; pure.

The proxy's own filters are asked: what they answer themselves, and the request as it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.core.model import Backend, Filters, HeaderEdit, Rule
from mesh.explain.question import Question
from proxy.filters import Reply, compile_filters
from proxy.guard import Fields


def reply_of(rule: Rule, backend: Backend | None, question: Question) -> Reply | None:
    """What the filters answer without a server: a redirect, a preflight."""
    found = compile_filters(rule.filters, backend.filters if backend is not None else None)
    return found.answer(question.request(), question.port) if found is not None else None


def location_of(reply: Reply) -> str:
    """Where a redirect leads, "" for another answer."""
    return _value(reply.fields, b"location")


def describe_filters(
    filters: Filters | None, question: Question, before: Filters | None = None
) -> tuple[str, ...]:
    """One line for each thing that these filters change; `before` are those of the rule, which
    are applied first."""
    return tuple(_lines(filters, question, before)) if filters is not None else ()


def _lines(filters: Filters, question: Question, before: Filters | None) -> Iterator[str]:
    if filters.cors is not None:
        yield f"CORS: origins {', '.join(filters.cors.allow_origins) or 'none'}"
    if filters.request is not None:
        yield f"request headers: {_edit(filters.request)}"
    if filters.rewrite is not None:
        found = compile_filters(before, filters)
        if found is not None:
            sent = found.request(question.request())
            yield f"rewritten to {_text(sent.target)}, Host {_text(sent.host)}"
    for mirror in filters.mirrors:
        yield f"{mirror.share * 100:g} % copied to {mirror.authority}"
    if filters.response is not None:
        yield f"response headers: {_edit(filters.response)}"


def _edit(edit: HeaderEdit) -> str:
    words = [f"set {name}: {value}" for name, value in edit.set]
    words += [f"add {name}: {value}" for name, value in edit.add]
    words += [f"remove {name}" for name in edit.remove]
    return ", ".join(words) or "nothing"


def _value(fields: Fields, name: bytes) -> str:
    for i in range(0, len(fields), 4):
        if fields[i].lower() == name:
            return _text(fields[i + 2])
    return ""


def _text(data: bytes) -> str:
    return data.decode("latin-1")
