"""The endpoints of one Service port: which of them may be asked now, and by which balancer.

What a request costs is a list and a function; breakers move endpoints in and out of the list
when something happens. A probe is handed out by the same function, once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import random
from time import monotonic
from typing import Any, Protocol

from mesh.core import model
from mesh.core.model import BackendPolicy, Balancing, HashKey, Service
from proxy.answer import Outcome
from proxy.balance import Pick, balancer, pick
from proxy.breaker import Admission, Breaker, BreakerPolicy
from proxy.hop import Hop
from proxy.http1 import Request
from proxy.ring import Ring, read_key


class Clock(Protocol):
    """What breakers need of a loop."""

    def call_later(self, delay: float, callback: Callable[..., None], /, *args: Any) -> Any: ...


class BackendState:
    """See the module. `hops` may be picked, `all` are what the Service has."""

    __slots__ = (
        "_balance",
        "_clock",
        "_policy",
        "_probes",
        "_ring",
        "_timers",
        "all",
        "authority",
        "breakers",
        "denial",
        "hash_key",
        "hops",
        "max_active",
        "pick",
        "service",
    )

    def __init__(self, authority: str, clock: Clock) -> None:
        self.authority = authority
        self.service: Service | None = None
        self.all: list[Hop] = []
        self.hops: list[Hop] = []
        self.denial: Outcome | None = Outcome.NO_SERVICE
        self.breakers: dict[Hop, Breaker] | None = None
        self.max_active: int | None = None  # requests under way at once
        self.hash_key: HashKey | None = None  # what decides, where the same key stays
        self.pick: Pick = pick
        self._balance: Pick = pick
        self._clock = clock
        self._policy = BackendPolicy()
        self._probes: list[Hop] = []
        self._timers: dict[Hop, Any] = {}
        self._ring: Ring[Hop] | None = None

    def set(self, service: Service | None, hops: list[Hop], denial: Outcome | None) -> None:
        """Take what the view says now; breakers of endpoints that stay go on."""
        self.service = service
        self.denial = denial
        self.all = hops
        policy = (service.policy if service is not None else None) or BackendPolicy()
        if policy.balancing is not self._policy.balancing:
            self._balance = balancer(policy.balancing, random)
        if policy.breaker != self._policy.breaker:
            self.breakers = None
        self._policy = policy
        self.hash_key = policy.key if policy.balancing is Balancing.HASH else None
        self._ring = None
        pool = policy.pool
        self.max_active = pool.max_requests if pool is not None else None
        if policy.breaker is not None:
            old = self.breakers or {}
            rule = _breaker_policy(policy.breaker)
            self.breakers = {hop: old.get(hop) or Breaker(rule) for hop in hops}
        self._sort_out()

    def share(self, hops: list[Hop]) -> None:
        """Endpoints that belong to no Service."""
        self.denial = None
        self.all = self.hops = hops

    @property
    def balancing(self) -> Balancing:
        return self._policy.balancing

    @property
    def has_probe(self) -> bool:
        """Whether the next request would find out about a broken endpoint."""
        return bool(self._probes)

    def pick_for(self, request: Request, avoid: Collection[Hop] = ()) -> Hop | None:
        """Who serves a request whose key decides; one without a key goes where it is quickest,
        as does the probe of a broken endpoint."""
        key = read_key(request, self.hash_key) if self.hash_key is not None else None
        if key is None or self._probes or self.max_active is not None:
            return self.pick(self.hops, random, avoid)
        if self._ring is None:
            self._ring = Ring(self.all, lambda hop: hop.address)
        return self._ring.find(key, self.hops, avoid)

    def why_empty(self) -> Outcome:
        """Why there is nobody to ask."""
        if self.denial is not None:
            return self.denial
        if self.hops:
            return Outcome.QUEUE_FULL
        return Outcome.ALL_BROKEN if self.all else Outcome.NO_ENDPOINTS

    def note(self, hop: Hop, *, failed: bool) -> None:
        """How one try of an endpoint ended. Called only where there are breakers."""
        breaker = self.breakers.get(hop) if self.breakers is not None else None
        if breaker is None:
            return
        if not failed:
            if breaker.succeeded():
                self._sort_out()
            return
        if breaker.probe_at is None and not self._may_lose_one():
            return
        now = monotonic()
        if breaker.failed(now, random()) and breaker.probe_at is not None:
            self._sort_out()
            self._look_again(hop, breaker.probe_at - now)

    def _may_lose_one(self) -> bool:
        rule = self._policy.breaker
        out = len(self.all) - len(self.hops)
        return rule is None or rule.max_share >= 1.0 or out + 1 <= rule.max_share * len(self.all)

    def _due(self, hop: Hop) -> None:
        """The wait of a broken endpoint is over: everything, or one request, may go there."""
        self._timers.pop(hop, None)
        breaker = self.breakers.get(hop) if self.breakers is not None else None
        if breaker is None or breaker.probe_at is None:
            return
        now = monotonic()
        admission = breaker.admit(now)
        if admission is Admission.PROBE:
            if hop not in self._probes:
                self._probes.append(hop)
            self._choose_pick()
        elif admission is Admission.ADMIT:
            self._sort_out()
            return
        self._look_again(hop, max(0.001, (breaker.probe_at or now) - now))

    def _look_again(self, hop: Hop, seconds: float) -> None:
        timer = self._timers.pop(hop, None)
        if timer is not None:
            timer.cancel()
        self._timers[hop] = self._clock.call_later(seconds, self._due, hop)

    def _pick_probe(
        self, endpoints: list[Any], random: Callable[[], float], avoid: Collection[Any] = ()
    ) -> Any:
        """The next request goes to an endpoint that is on probation, and no second one."""
        for hop in self._probes:
            if hop not in avoid:
                self._probes.remove(hop)
                self._choose_pick()
                return hop
        return self._balance(endpoints, random, avoid)

    def _pick_limited(
        self, endpoints: list[Any], random: Callable[[], float], avoid: Collection[Any] = ()
    ) -> Any:
        """Nobody, when as many requests are under way as may be."""
        if sum(hop.load.pending for hop in self.all) >= (self.max_active or 0):
            return None
        return self._pick_probe(endpoints, random, avoid)

    def _choose_pick(self) -> None:
        if self.max_active is not None:
            self.pick = self._pick_limited
        else:
            self.pick = self._pick_probe if self._probes else self._balance

    def _sort_out(self) -> None:
        """Which endpoints may be picked, after something changed."""
        breakers = self.breakers
        self.hops = self.all
        if breakers is not None:
            self.hops = [hop for hop in self.all if breakers[hop].probe_at is None]
        self._probes = [hop for hop in self._probes if hop in self.all and hop not in self.hops]
        self._choose_pick()


def _breaker_policy(rule: model.Breaker) -> BreakerPolicy:
    return BreakerPolicy(
        max_failures=rule.max_failures,
        min_backoff=rule.min_penalty,
        max_backoff=rule.max_penalty,
        jitter=rule.jitter,
        probes=rule.probes,
    )
