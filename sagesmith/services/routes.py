"""Routes: where the requests of an endpoint go. The endpoints room commits them; the runtime reads them from memory.

A table keeps the routes of every endpoint that was invoked lately. Routes older than FRESH_SECONDS are read again in
the background while requests still follow the old ones; above KEEP_SECONDS a request waits for the new ones. So no
server sends a request along routes that ended more than KEEP_SECONDS ago, which is what the draining of instances
relies on, and no request that finds its routes in memory touches the database.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict

from sagesmith.store.resources import KINDS

if TYPE_CHECKING:
    from sagesmith.core.machine import Document
    from sagesmith.core.operation import Context, World

FRESH_SECONDS = 0.5
KEEP_SECONDS = 5.0
REST_SECONDS = 2.0  # how long an instance that refused a connection is passed over


class Place(TypedDict):
    """Where one container answers."""

    hostname: str
    address: str  # host:port


class InstanceRoute(TypedDict):
    """The containers of one instance, in the order in which a request passes through them."""

    run: str
    places: list[Place]


class VariantRoute(TypedDict):
    """The instances of a variant and its share of the traffic."""

    name: str
    weight: float
    strategy: str  # LEAST_OUTSTANDING_REQUESTS | RANDOM
    direct: bool
    instances: list[InstanceRoute]


class Routes(TypedDict):
    """All of an endpoint's routes; no variants: it serves nothing."""

    variants: list[VariantRoute]


class Instance:
    """An instance and how busy it is with requests of this process."""

    __slots__ = ("outstanding", "places", "rests_until", "run")

    def __init__(self, run: str) -> None:
        self.run = run
        self.places: tuple[Place, ...] = ()
        self.outstanding = 0
        self.rests_until = 0.0  # event loop time


class Variant:
    """A variant as requests see it."""

    __slots__ = ("direct", "instances", "name", "strategy", "turn")

    def __init__(self, route: VariantRoute, known: dict[str, Instance]) -> None:
        self.name = route["name"]
        self.strategy = route["strategy"]
        self.direct = route["direct"]
        self.turn = 0
        self.instances = [known.get(entry["run"]) or Instance(entry["run"]) for entry in route["instances"]]
        for instance, entry in zip(self.instances, route["instances"], strict=True):
            instance.places = tuple(entry["places"])

    def choose(self, now: float, but: Instance | None = None) -> Instance | None:
        """An instance by the variant's strategy, other than `but`; None when there is none.

        The least busy one, and among equals the next in turn; an instance that just refused a connection is chosen
        only when all have.
        """
        instances = self.instances if but is None else [one for one in self.instances if one is not but]
        if len(instances) < 2:
            return instances[0] if instances else None
        awake = [one for one in instances if one.rests_until <= now] or instances
        if self.strategy == "RANDOM":
            return random.choice(awake)
        self.turn += 1
        turn = self.turn % len(awake)
        return min(awake[turn:] + awake[:turn], key=lambda one: one.outstanding)


class Target:
    """An endpoint as requests see it."""

    __slots__ = ("_cumulative", "_weighted", "loaded_at", "refreshing", "routes", "status", "variants")

    def __init__(self, document: Document, loaded_at: float, before: Target | None) -> None:
        known = {one.run: one for variant in before.variants.values() for one in variant.instances} if before else {}
        self.routes: Routes = document.private["routes"]
        self.status = document.status
        self.loaded_at = loaded_at
        self.refreshing = False
        self.variants: dict[str, Variant] = {route["name"]: Variant(route, known) for route in self.routes["variants"]}
        weighted = [route for route in self.routes["variants"] if route["weight"] > 0]
        self._weighted = [self.variants[route["name"]] for route in weighted]
        self._cumulative = list(accumulate(route["weight"] for route in weighted))

    def choose(self) -> Variant | None:
        """A variant by weight; None when none has a weight above zero."""
        if len(self._weighted) < 2:
            return self._weighted[0] if self._weighted else None
        return self._weighted[bisect_right(self._cumulative, random.random() * self._cumulative[-1])]


Key = tuple[str, str, str]  # account, region, endpoint


class Table:
    """The routes that one server process has in memory."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._targets: dict[Key, Target] = {}
        self._loads: dict[Key, asyncio.Task[Target | None]] = {}
        self._refreshes: set[asyncio.Task[None]] = set()

    def peek(self, ctx: Context, name: str) -> Target | None:
        """The routes if they are in memory and young enough to follow; has them read again when they are due."""
        target = self._targets.get((ctx.account, ctx.region, name))
        if target is None:
            return None
        age = self._loop.time() - target.loaded_at
        if age <= FRESH_SECONDS:
            return target
        if age > KEEP_SECONDS:
            return None
        if not target.refreshing:
            target.refreshing = True
            task = self._loop.create_task(self._refresh(ctx, name, target))
            self._refreshes.add(task)
            task.add_done_callback(self._refreshes.discard)
        return target

    async def load(self, ctx: Context, name: str) -> Target | None:
        """The routes as the database has them now; None when there is no such endpoint. Loads under way are shared."""
        key = (ctx.account, ctx.region, name)
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = self._loop.create_task(self._load(ctx, name, key))
            task.add_done_callback(lambda _: self._loads.pop(key, None))
        return await asyncio.shield(task)

    async def _load(self, ctx: Context, name: str, key: Key) -> Target | None:
        asked_at = self._loop.time()
        document = await self._loop.run_in_executor(None, lambda: KINDS["Endpoint"].find(ctx, name))
        before = self._targets.get(key)
        if document is None or document.status == "Deleting":
            self._targets.pop(key, None)
            return None
        if before is not None and before.loaded_at > asked_at:
            return before
        if before is not None and before.routes == document.private["routes"] and before.status == document.status:
            before.loaded_at = asked_at
            return before
        self._targets[key] = target = Target(document, asked_at, before)
        return target

    def forget(self, key: Key) -> None:
        """Has the next request read the routes anew. May be called from any thread."""
        target = self._targets.get(key)
        if target is not None:
            target.loaded_at = -inf

    async def _refresh(self, ctx: Context, name: str, target: Target) -> None:
        # A failure is not lost: requests follow the old routes until KEEP_SECONDS, then one waits and meets it.
        with suppress(Exception):
            await self.load(ctx, name)
        target.refreshing = False

    async def close(self) -> None:
        """Ends what is read in the background."""
        tasks: list[asyncio.Task[Any]] = [*self._loads.values(), *self._refreshes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_LISTENERS: list[Callable[[World, Key], None]] = []


def on_forget(listener: Callable[[World, Key], None]) -> None:
    """Registers who is told, in this process, that an endpoint's routes changed by a client's request."""
    _LISTENERS.append(listener)


def forget(ctx: Context, name: str) -> None:
    """Tells this process's tables that an endpoint's routes have just changed."""
    for listener in _LISTENERS:
        listener(ctx.world, (ctx.account, ctx.region, name))
