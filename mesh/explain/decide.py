"""One request replayed: the view of its client, the rule, the draw, the endpoints; pure.

The view is cut by destination's own `look` and routed by `mesh.core.route`, which proxies
run; this only writes down what they say. Left out is what no view holds: which endpoint the
balancer prefers at that moment, and what the other end's application answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from destination.facts import Key, ServiceFacts
from destination.snapshot import Snapshot
from destination.store import Store
from destination.view import Client, look
from mesh.core.errors import MeshError
from mesh.core.labels import H_OVERRIDE
from mesh.core.match import Head
from mesh.core.model import (
    BY_CONNECTION,
    Backend,
    Breaker,
    Budget,
    Endpoint,
    Policy,
    Protocol,
    Rule,
    Service,
    Target,
    View,
)
from mesh.core.names import join_address, names_a_port, split_authority
from mesh.core.route import (
    NoBackend,
    RouteTable,
    RuleWeights,
    failure_status,
    settle,
    why_not,
)
from mesh.explain.changes import describe_filters, location_of, reply_of
from mesh.explain.objects import Involved, involved, why_owner
from mesh.explain.question import Asker, Question, find_service, is_address, resolve_host
from mesh.explain.reasons import describe, why_no_match, why_no_name, why_unmet
from proxy.answer import Outcome, origin_of
from proxy.patterns import compile_pattern

_OVERRIDE: Final = H_OVERRIDE.decode()
THE_SERVICE: Final = "the Service itself"
_NOTHING: Final = Policy()
_DENIALS: Final = {outcome.value.reason: outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule or route class that the request was held against; `why` it is not met."""

    name: str
    condition: str
    is_met: bool
    why: str = ""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy itself would answer, as `mesh-reason` carries it."""

    status: int
    reason: str
    text: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One backend of the rule: its share of draws [low, high) and who serves it.

    `answer` is what its requests get from the proxy itself, None where an endpoint serves;
    `source` the object that put it in the place of the Service, `filters` what it changes.
    """

    authority: str
    weight: int
    low: float
    high: float
    is_drawn: bool
    endpoints: tuple[Endpoint, ...] = ()
    answer: Answer | None = None
    source: str = ""
    filters: tuple[str, ...] = ()
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The whole chain. `where` is service, pod or outside; `notes` are what a person must know."""

    question: Question
    asker: Asker
    where: str
    address: str = ""
    service: Service | None = None
    protocol: Protocol = Protocol.DETECT
    is_per_request: bool = True
    rules: tuple[Tried, ...] = ()
    owner: str = ""  # the object that the rule in force comes from; "" is the Service itself
    why_owner: str = ""
    profile: str = ""
    classes: tuple[Tried, ...] = ()
    route: str = ""
    leaves: tuple[Leaf, ...] = ()
    answer: Answer | None = None  # of a request that no backend was found for
    policy: Policy = _NOTHING
    budget: Budget | None = None
    filters: tuple[str, ...] = ()
    involved: tuple[Involved, ...] = ()
    notes: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()  # pods behind it that take nothing without mutual TLS

    @property
    def timeout(self) -> float | None:
        """Seconds for the whole request."""
        return self.policy.request


def decide(
    store: Store,
    snapshot: Snapshot,
    asker: Asker,
    question: Question,
    draw: float | None,
    view: View | None = None,
) -> Decision:
    """Replay one request, and say what the other end demands.

    Without `draw` no leaf is drawn, unless one gets everything. `view` is what the client's proxy
    has in force; without it, what destination would send now.

    Raises MeshError for a host or port that nothing answers to.
    """
    found = _replay(store, snapshot, asker, question, draw, view)
    ends = {end for leaf in found.leaves for end in leaf.endpoints}
    pods = sorted((end.namespace, end.pod) for end in ends if end.identity)
    facts = [snapshot.pods.get(key) for key in pods]
    return replace(found, guarded=tuple(f.name for f in facts if f is not None and f.require_tls))


def _replay(
    store: Store,
    snapshot: Snapshot,
    asker: Asker,
    question: Question,
    draw: float | None,
    view: View | None,
) -> Decision:
    chosen = _chosen(snapshot, asker, question, view)
    if chosen is not None:
        note = f"{_OVERRIDE} of an ingress controller: goes to {question.override}"
        target = chosen.targets[question.override]
        return _routed(store, snapshot, asker, question, draw, chosen, target, (note,))
    host, aliases = resolve_host(store, question.host, asker.namespace)
    key = find_service(store, snapshot, host, asker.namespace)
    facts = store.services[key] if key is not None else None
    address, notes = _dialled(store, snapshot, host, question.port, facts)
    notes = (*aliases, *_not_chosen(asker, question), *notes)
    if not address:
        return Decision(
            question, asker, "outside", notes=notes, involved=involved(store, snapshot, key)
        )
    client = _client_of(asker)
    if view is None or address not in view.targets:
        view = look(snapshot, client, [address], version=1).view
    target = view.targets[address]
    if target.rules:
        return _routed(store, snapshot, asker, question, draw, view, target, notes)
    return _direct(store, snapshot, asker, question, view, target, key, notes)


def _routed(
    store: Store,
    snapshot: Snapshot,
    asker: Asker,
    question: Question,
    draw: float | None,
    view: View,
    target: Target,
    notes: tuple[str, ...],
) -> Decision:
    table = RouteTable(target, compile_pattern)
    head = question.head()
    is_per_request = target.protocol not in BY_CONNECTION and not question.encrypted
    name = question.server_name
    found = table.find_rule(head) if is_per_request else table.find_connection(name)
    route = table.find_class(head) if is_per_request else None
    key = _key_of(target.authority)
    redirects = found is not None and found.redirects and is_per_request
    leaves: tuple[Leaf, ...] = ()
    if found is not None and not redirects:
        leaves = tuple(_leaves(asker, question, view, found, draw, is_per_request))
    rule = found.rule if found is not None else None
    policy = settle(rule, route.route if route is not None else None)
    filters = rule.filters if rule is not None and is_per_request else None
    unit = snapshot.units[key]
    return Decision(
        question,
        asker,
        "service",
        address=target.address,
        service=unit.ports[split_authority(target.authority)[1] or 0].service,
        protocol=target.protocol,
        is_per_request=is_per_request,
        rules=tuple(_rules_tried(target, head if is_per_request else name, found)),
        owner=str(found.rule.source or "") if found is not None else "",
        why_owner=why_owner(store, key, rule, asker.namespace),
        profile=str(target.profile.source) if target.profile is not None else "",
        classes=tuple(_classes_tried(table, head)) if is_per_request else (),
        route=route.route.name if route is not None else "",
        leaves=leaves,
        answer=_unrouted(found, question, is_per_request),
        policy=policy if is_per_request else _NOTHING,
        budget=target.budget,
        filters=describe_filters(filters, question),
        involved=involved(store, snapshot, key),
        notes=notes,
    )


def _direct(
    store: Store,
    snapshot: Snapshot,
    asker: Asker,
    question: Question,
    view: View,
    target: Target,
    key: Key | None,
    notes: tuple[str, ...],
) -> Decision:
    """A pod's own address, or one that nobody knows: exactly there."""
    is_per_request = target.protocol not in BY_CONNECTION and not question.encrypted
    table = RouteTable(target, compile_pattern)
    head = question.head()
    route = table.find_class(head) if is_per_request else None
    leaves: tuple[Leaf, ...] = ()
    if target.endpoint is not None:
        answer = _tls_refusal(asker, view, (target.endpoint,), target.authority)
        leaves = (Leaf(target.address, 1, 0.0, 1.0, True, (target.endpoint,), answer),)
    elif view.inbound.require_tls:
        answer = _answer(Outcome.UNMESHED_TARGET, "")
        leaves = (Leaf(target.address, 1, 0.0, 1.0, True, (), answer),)
    return Decision(
        question,
        asker,
        "pod" if target.endpoint is not None else "outside",
        address=target.address,
        protocol=target.protocol,
        is_per_request=is_per_request,
        profile=str(target.profile.source) if target.profile is not None else "",
        classes=tuple(_classes_tried(table, head)) if is_per_request else (),
        route=route.route.name if route is not None else "",
        leaves=leaves,
        policy=settle(None, route.route if route is not None else None),
        budget=target.budget,
        involved=involved(store, snapshot, key),
        notes=notes,
    )


def _leaves(
    asker: Asker,
    question: Question,
    view: View,
    found: RuleWeights,
    draw: float | None,
    is_per_request: bool,
) -> Iterator[Leaf]:
    rule = found.rule
    total = sum(backend.weight for backend in rule.backends)
    drawn = found.only if draw is None else found.draw_backend(draw)
    low = 0
    for backend in rule.backends:
        service = view.services.get(backend.authority)
        endpoints = service.endpoints if service is not None and not backend.refused else ()
        answer = _leaf_answer(asker, question, view, rule, backend, service, is_per_request)
        high = low + backend.weight
        yield Leaf(
            backend.authority,
            backend.weight,
            low / total if total else 0.0,
            high / total if total else 0.0,
            backend is drawn,
            endpoints,
            answer if backend.weight else None,
            source=str(backend.source or ""),
            filters=(
                describe_filters(backend.filters, question, rule.filters) if is_per_request else ()
            ),
            breaker=service.policy.breaker if service is not None and service.policy else None,
        )
        low = high


def _leaf_answer(
    asker: Asker,
    question: Question,
    view: View,
    rule: Rule,
    backend: Backend,
    service: Service | None,
    is_per_request: bool,
) -> Answer | None:
    """What the proxy answers itself when this backend is drawn; None: an endpoint serves."""
    origin = origin_of(rule, backend.authority)
    if is_per_request:
        replied = _filters_answer(rule, backend, question, origin)
        if replied is not None:
            return replied
    denial = why_not(service, backend)
    if denial is not None:
        return _denied(rule, denial, origin)
    endpoints = service.endpoints if service is not None else ()
    return _tls_refusal(asker, view, endpoints, origin)


def _filters_answer(
    rule: Rule, backend: Backend | None, question: Question, origin: str
) -> Answer | None:
    reply = reply_of(rule, backend, question)
    if reply is None:
        return None
    return Answer(reply.status, reply.reason, location_of(reply) or reply.reason, origin)


def _tls_refusal(
    asker: Asker, view: View, endpoints: tuple[Endpoint, ...], origin: str
) -> Answer | None:
    """What a client that requires TLS answers where no endpoint can have it."""
    own = asker.pod.ips if asker.pod is not None else ()
    usable = any(endpoint.identity or endpoint.address in own for endpoint in endpoints)
    if view.inbound.require_tls and not usable:
        return _answer(Outcome.UNMESHED_TARGET, origin)
    return None


def _unrouted(found: RuleWeights | None, question: Question, is_per_request: bool) -> Answer | None:
    if found is None:
        return _answer(Outcome.NO_RULE, "")
    origin = origin_of(found.rule)
    if found.redirects and is_per_request:
        return _filters_answer(found.rule, None, question, origin)
    if found.draw_backend(0.0) is None:
        return _denied(found.rule, NoBackend.NO_WEIGHT, origin)
    return None


def _denied(rule: Rule, denial: NoBackend, origin: str) -> Answer:
    kind = _DENIALS[denial.value].value
    return Answer(failure_status(rule, denial), kind.reason, kind.text, origin)


def _answer(outcome: Outcome, origin: str) -> Answer:
    kind = outcome.value
    return Answer(kind.status, kind.reason, kind.text, origin)


def _rules_tried(target: Target, asked: Head | str, found: RuleWeights | None) -> Iterator[Tried]:
    """Each rule up to the one that is met by a request's head, or a connection's server name."""
    if isinstance(asked, str):
        rules = target.connections or target.rules[-1:]
        reasons = [why_no_name(rule, asked) for rule in rules]
    else:
        rules = target.rules
        reasons = [why_no_match(rule, asked, compile_pattern) for rule in rules]
    for rule, why in zip(rules, reasons, strict=True):
        timeout = rule.policy.request if rule.policy is not None else None
        yield Tried(_rule_name(rule), "", not why, why, timeout)
        if found is not None and rule is found.rule:
            return


def _rule_name(rule: Rule) -> str:
    return origin_of(rule) or THE_SERVICE


def _classes_tried(table: RouteTable, head: Head) -> Iterator[Tried]:
    profile = table.target.profile
    for route in profile.routes if profile is not None else ():
        why = why_unmet(route.condition, head, compile_pattern)
        yield Tried(route.name, describe(route.condition), not why, why, route.timeout)
        if not why:
            return


def _dialled(
    store: Store, snapshot: Snapshot, host: str, port: int, facts: ServiceFacts | None
) -> tuple[str, tuple[str, ...]]:
    """The `ip:port` that the application dials, "" where a name of the outside decides."""
    if facts is None:
        if is_address(host):
            return join_address(host, port), ()
        return "", (f"{host} is no Service here: forwarded as it is, in plaintext",)
    name = f"Service {facts.namespace}/{facts.name}"
    if facts.external_name:
        return "", (f"{name} is an ExternalName: forwarded to {facts.external_name} as it is",)
    if port not in {known.number for known in facts.ports}:
        ports = ", ".join(str(known.number) for known in facts.ports) or "none"
        raise MeshError(f"{name} has no port {port}; its ports: {ports}")
    if not facts.headless:
        address = host if is_address(host) else next(iter(facts.ips), "")
        if not address:
            raise MeshError(f"{name} has no address yet; try again in a moment")
        return join_address(address, port), ()
    behind = snapshot.units[facts.key].ports[port].behind
    if not behind:
        raise MeshError(f"{name} is headless and has no pods: its name has no address")
    pods = ", ".join(sorted(behind)[:10])
    address, listens = min(behind.items())
    notes = [f"{name} is headless: the application picks one of {pods}; {address} is shown"]
    if listens != port:
        notes.append(
            f"its pods listen on {listens}; a headless name translates no ports: use {listens}"
        )
    return join_address(address, port), tuple(notes)


def _chosen(snapshot: Snapshot, asker: Asker, question: Question, view: View | None) -> View | None:
    """The view with the Service that a header asks for, where the client is an ingress
    controller and there is one; the host of the request does not count then."""
    name = question.override
    if not asker.is_ingress or question.encrypted or not names_a_port(name):
        return None
    if view is None or name not in view.targets:
        view = look(snapshot, _client_of(asker), [name], version=1).view
    return view if view.targets[name].rules else None


def _not_chosen(asker: Asker, question: Question) -> Iterator[str]:
    if not question.override:
        return
    if asker.is_ingress:
        yield f"{_OVERRIDE}: {question.override[:80]} is no Service port here, and is passed over"
    else:
        yield (
            f"{_OVERRIDE} counts for pods in ingress mode only (mesh/inject: ingress): name one "
            "with --from"
        )


def _client_of(asker: Asker) -> Client:
    if asker.pod is None:
        return Client(asker.namespace, "")
    return Client(asker.namespace, asker.pod.name, asker.pod.node)


def _key_of(authority: str) -> Key:
    name, _, rest = authority.partition(".")
    return rest.partition(".")[0], name
