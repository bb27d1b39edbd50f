"""What crosses the boundary of an actor: names, keys, arguments, results, exceptions; and what wraps it on the way."""

from __future__ import annotations

import dataclasses
import enum
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pydantic
import pytest

from loom import Actor, Loom, read_only
from loom.codec import PayloadCodec
from loom.errors import DefinitionError, InvalidArgumentsError, InvalidKeyError, RemoteError
from loom.interceptors import CallInfo, Interceptor, StepInfo, TurnInfo

from .bank import Account, Refused
from .place import Place, eventually, journal


class Colour(enum.Enum):
    RED = "red"


class Item(pydantic.BaseModel):
    name: str
    price: int = pydantic.Field(ge=0)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Cart(pydantic.BaseModel):
    items: list[Item] = []
    limit: int = pydantic.Field(default=3, le=5)


class Unfriendly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class Shop(Actor[Cart]):
    async def put(self, item: Item, twice: bool = False) -> Cart:
        self.state.items.extend([item] * (2 if twice else 1))
        return self.state

    async def put_raw(self, name: str) -> None:
        self.state.items.append(Item.model_construct(name=name, price=-1))

    async def move(self, point: Point, by: Point | None = None) -> Point:
        by = by or Point(1)
        return Point(point.x + by.x, point.y + by.y)

    async def paint(self, colour: Colour, *, size: float = 1.0, tags: set[str] = frozenset()) -> list[Any]:  # type: ignore[assignment]
        return [colour is Colour.RED, size, sorted(tags)]

    async def unfriendly(self) -> None:
        raise Unfriendly(code=7)

    async def local_error(self) -> None:
        class Hidden(Exception): ...

        raise Hidden("who am I", 3)

    async def _private(self) -> None: ...

    def plain(self) -> None: ...

    async def default_item(self, item: Item = Item(name="d", price=1)) -> str:  # noqa: B008
        return item.name

    @read_only
    async def names(self) -> list[str]:
        return [item.name for item in self.state.items]


class Ledger(Actor[Point]):
    def initial_state(self) -> Point:
        return Point(0)

    async def add(self, x: int) -> Point:
        self.state.x += x
        return self.state


async def test_models_cross_as_arguments_results_and_state(place: Place) -> None:
    app = await place.open(Shop, Ledger)
    cart = await app.actor(Shop, "s").put(Item(name="tea", price=3), twice=True)
    assert isinstance(cart, Cart)
    assert cart.items == [Item(name="tea", price=3)] * 2
    assert await app.actor(Shop, "s").move(Point(1, 2)) == Point(2, 2)
    assert await app.actor(Shop, "s").move(Point(1), by=Point(5, 5)) == Point(6, 5)
    assert await app.actor(Shop, "s").paint(Colour.RED, tags={"b", "a"}) == [True, 1.0, ["a", "b"]]
    assert await app.actor(Shop, "s").default_item() == "d"
    assert await app.actor(Shop, "s").default_item(Item(name="e", price=1)) == "e"
    assert await app.actor(Ledger, "l").add(2) == Point(2)
    await place.close(app)
    again = await place.open(Shop, Ledger)
    assert await again.actor(Shop, "s").names() == ["tea", "tea"]
    assert await again.actor(Ledger, "l").add(2) == Point(4)


async def test_a_state_that_breaks_its_own_rules_is_not_committed(memory: Place) -> None:
    app = await memory.open(Shop)
    with pytest.raises(Exception, match="greater than or equal to 0"):
        await app.actor(Shop, "s").put_raw("bad")
    assert await app.actor(Shop, "s").names() == []


@pytest.mark.parametrize(
    ("args", "kwargs", "what"),
    [
        ((), {}, "missing a required argument: 'item'"),
        ((1, 2, 3), {}, "too many positional"),
        ((), {"item": 1, "other": 2}, "unexpected keyword"),
        (("tea",), {}, r"\$\.item"),
        (({"name": "x", "price": -1},), {}, "greater than or equal to 0"),
        (({"name": "x", "price": 1}, "yes"), {}, r"\$\.twice"),
    ],
)
async def test_wrong_arguments_are_named(place: Place, args: Any, kwargs: Any, what: str) -> None:
    app = await place.open(Shop)
    with pytest.raises(InvalidArgumentsError, match=what) as caught:
        await app.actor(Shop, "s").put(*args, **kwargs)
    assert "Shop.put" in str(caught.value)
    async with place.make(Shop).client() as client:
        with pytest.raises(InvalidArgumentsError, match=what):
            await client.actor(Shop, "s").put(*args, **kwargs)
    assert await app.actor(Shop, "s").names() == []


@pytest.mark.parametrize(
    "name", ["_private", "plain", "nothing", "initial_state", "on_activate", "state", "__wrapped__"]
)
async def test_a_reference_exposes_handlers_only(memory: Place, name: str) -> None:
    app = await memory.open(Shop)
    with pytest.raises(AttributeError, match=r"Shop 's' has no handler"):
        getattr(app.actor(Shop, "s"), name)


@pytest.mark.parametrize("key", ["", 5, None, "x" * 5000, "\ud800"])
async def test_bad_keys_are_refused(memory: Place, key: Any) -> None:
    app = await memory.open(Account)
    with pytest.raises(InvalidKeyError):
        await app.actor(Account, key).deposit(1)


@pytest.mark.parametrize("key", ["a/b", "ü:{}\n", "日本", " ", "x" * 3000])
async def test_any_other_text_is_a_key(place: Place, key: str) -> None:
    app = await place.open(Account)
    assert await app.actor(Account, key).deposit(1) == 1
    assert await app.actor(Account, key).balance() == 1


async def test_exceptions_cross_as_their_own_type_where_they_can(place: Place) -> None:
    app = await place.open(Account, Shop)
    async with place.make(Account, Shop).client() as client:
        for caller in (app, client):
            with pytest.raises(Refused) as caught:
                await caller.actor(Account, "a").withdraw(5)
            assert caught.value.args == ("a", 0)
            with pytest.raises(RemoteError, match="code 7") as remote:
                await caller.actor(Shop, "s").unfriendly()
            assert remote.value.type_name.endswith("Unfriendly")
            with pytest.raises(RemoteError, match="who am I"):
                await caller.actor(Shop, "s").local_error()


class Mask(PayloadCodec):
    def encode(self, data: bytes) -> bytes:
        return bytes(byte ^ 0x5A for byte in data)

    def decode(self, data: bytes) -> bytes:
        return self.encode(data)


class Zip(PayloadCodec):
    def encode(self, data: bytes) -> bytes:
        return b"Z" + zlib.compress(data)

    def decode(self, data: bytes) -> bytes:
        if data[:1] != b"Z":
            raise ValueError("not compressed by us")
        return zlib.decompress(data[1:])


async def test_payload_codecs_wrap_everything_that_is_stored(place: Place) -> None:
    codecs = [Zip(), Mask()]
    app = await place.open(Account, payload_codecs=codecs, options={"snapshot_every": 3, "retain_entries": 100})
    async with place.make(Account, payload_codecs=codecs).client() as client:
        for _ in range(4):
            await client.actor(Account, "a").note("secret-text")
        await client.actor(Account, "a").tell("b", texts=["secret-text"])

    async def told() -> bool:
        return bool(await app.actor(Account, "b").notes())

    await eventually(told)
    snapshot = await journal(app).read_snapshot("actor/Account/a")
    assert snapshot is not None
    stored = [snapshot.data, *(entry.data for entry in await journal(app).read("actor/Account/a"))]
    for data in stored:
        assert b"secret-text" not in data
        assert Mask().decode(data)[:1] == b"Z"
    await place.close(app)
    again = await place.open(Account, payload_codecs=codecs)
    assert await again.actor(Account, "a").notes() == ["secret-text"] * 4
    await place.close(again)
    without = await place.open(Account)
    with pytest.raises(Exception, match="can't be read"):
        await without.actor(Account, "a").notes()


class Spy(Interceptor):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def _around(self, what: str, proceed: Callable[[], Awaitable[Any]]) -> Any:
        self.log.append(f"{self.name}>{what}")
        result = await proceed()
        self.log.append(f"{self.name}<{what}")
        return result

    async def call(self, info: CallInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        return await self._around(f"call {info.method}", proceed)

    async def turn(self, info: TurnInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        return await self._around(f"turn {info.method}{' read' if info.read_only else ''}", proceed)

    async def step(self, info: StepInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        return await self._around(f"step {info.name}", proceed)


class Stepper(Actor[None]):
    async def go(self) -> int:
        return await self.ctx.step(len, name="measure")("abc")

    async def ask(self) -> int:
        return await self.ctx.actor(Stepper, "other").go()


async def test_interceptors_nest_in_the_order_given(memory: Place) -> None:
    log: list[str] = []
    app = await memory.open(Stepper, interceptors=[Spy("1", log), Spy("2", log)])
    assert await app.actor(Stepper, "s").go() == 3
    inner = ["1>step measure", "2>step measure", "2<step measure", "1<step measure"]
    turn = ["1>turn go", "2>turn go", *inner, "2<turn go", "1<turn go"]
    assert log == ["1>call go", "2>call go", *turn, "2<call go", "1<call go"]
    log.clear()
    assert await app.actor(Stepper, "s").ask() == 3
    assert log[:5] == ["1>call ask", "2>call ask", "1>turn ask", "2>turn ask", "1>call go"]


async def test_an_interceptor_may_replace_a_result_or_refuse(memory: Place) -> None:
    class Doubles(Interceptor):
        async def turn(self, info: TurnInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
            if info.method == "withdraw":
                raise PermissionError("not today")
            return await proceed()

        async def call(self, info: CallInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
            return 2 * await proceed()

    app = await memory.open(Account, interceptors=[Doubles()])
    assert await app.actor(Account, "a").deposit(5) == 10
    with pytest.raises(PermissionError):
        await app.actor(Account, "a").withdraw(1)
    assert await app.actor(Account, "a").balance() == 10


def test_wrong_declarations_are_refused_when_the_app_is_made() -> None:
    class Variadic(Actor[None]):
        async def many(self, *args: int) -> None: ...

    class NotAsync(Actor[None]):
        @read_only
        def plain(self) -> None: ...

    class Unstorable(Actor[Loom]):
        async def x(self) -> None: ...

    class Same(Actor[None]):
        async def x(self) -> None: ...

    for wrong in (Variadic, NotAsync):
        with pytest.raises(DefinitionError):
            Loom([wrong])
    with pytest.raises(DefinitionError):
        Loom([Same, Same])
    with pytest.raises(DefinitionError):
        Loom([int])  # type: ignore[list-item]


class Text(msgspec.Struct):
    text: str = ""
