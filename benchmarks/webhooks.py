"""Webhooks: what `parse` costs beside pydantic v2 and msgspec, and the receiver beside a bare endpoint.

Run as `python benchmarks/webhooks.py [parse|receiver]`. Each figure is a ratio within one run, of medians
over interleaved rounds: on shared machines ratios hold, milliseconds don't. Exits with 1 if a target of
design figure P3 is missed: parse ≤ 1.0 with orjson and ≤ 1.9 with the standard library's json, over a
pydantic v2 union; receiver ≥ 0.5 of a bare Starlette endpoint that parses the same JSON.
"""

import contextlib
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import orjson
import pydantic
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from desk360_async import _json
from desk360_async.testing import WEBHOOKS, webhook_sample
from desk360_async.webhooks import WebhookReceiver, parse

BODIES = [webhook_sample(name) for name in WEBHOOKS]
ROUNDS, TURNS = 25, 400


# pydantic ------------------------------------------------------------------------------------------------


class Model(pydantic.BaseModel):
    """Frozen, and unknown fields stay reachable, as in an event's `raw`."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)


class Referral(Model):
    """The document's Referral."""

    id: str | None = None
    url: str | None = None
    body: str | None = None
    type: str | None = None
    header: str | None = None
    media_url: str | None = None
    media_type: str | None = None
    thumbnail_url: str | None = None


class Message(Model):
    """The document's Message."""

    id: str
    sender: str = pydantic.Field(alias="from")
    timestamp: datetime | None = None
    name: str | None = None
    text: str | None = None
    referral: Referral | None = None


class Text(Message):
    """The document's Text."""

    type: Literal["text"]
    text: str


class Place(Model):
    """The document's Place."""

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None


class Location(Message):
    """The document's Location."""

    type: Literal["location"]
    location: Place


class Name(Model):
    """The document's Name."""

    formatted_name: str
    first_name: str | None = None
    last_name: str | None = None
    middle_name: str | None = None
    suffix: str | None = None
    prefix: str | None = None


class Phone(Model):
    """The document's Phone."""

    phone: str | None = None
    type: str | None = None
    wa_id: str | None = None


class Email(Model):
    """The document's Email."""

    email: str | None = None
    type: str | None = None


class Address(Model):
    """The document's Address."""

    street: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None
    country_code: str | None = None
    type: str | None = None


class Organization(Model):
    """The document's Organization."""

    company: str | None = None
    department: str | None = None
    title: str | None = None


class Url(Model):
    """The document's Url."""

    url: str | None = None
    type: str | None = None


class Im(Model):
    """The document's Im."""

    service: str | None = None
    user_id: str | None = None


class Card(Model):
    """The document's Card."""

    name: Name
    org: Organization | None = None
    birthday: str | None = None
    phones: list[Phone] = []
    emails: list[Email] = []
    addresses: list[Address] = []
    urls: list[Url] = []
    ims: list[Im] = []


class Contacts(Message):
    """The document's Contacts."""

    type: Literal["contacts"]
    contacts: list[Card]


class Media(Model):
    """The document's Media."""

    message: str | None = None
    media_id: str
    mime_type: str
    sha: str


class File(Model):
    """The document's File."""

    url: str
    name: str
    type: str
    aws: bool


class Image(Message):
    """The document's Image."""

    type: Literal["image"]
    image: Media
    attachments: dict[str, list[File]]


class Other(Message):
    """The document's Other."""

    type: str


class Status(Model):
    """The document's Status."""

    id: str
    sender: str = pydantic.Field(alias="from")
    status: str


class PlainEnvelope(Model):
    """The document's PlainEnvelope."""

    messages: Text | Location | Contacts | Image | Other | None = None
    statuses: Status | None = None


class TaggedEnvelope(Model):
    """The document's TaggedEnvelope."""

    messages: Annotated[Text | Location | Contacts | Image, pydantic.Field(discriminator="type")] | None = (
        None
    )
    statuses: Status | None = None


# msgspec, from the same annotations: the floor, but it refuses whatever the document doesn't show


def struct(model: type[pydantic.BaseModel], made: dict[Any, Any]) -> Any:
    """Return the msgspec struct with a model's fields."""
    if model not in made:
        fields: list[Any] = []
        for name, info in model.model_fields.items():
            hint = replaced(info.annotation, made)
            field = msgspec.field(name=info.alias) if info.alias else ...
            if info.is_required():
                fields.append((name, hint, field) if info.alias else (name, hint))
            else:
                fields.append((name, hint, msgspec.field(default=info.default if info.default != [] else ())))
        tag = {"tag": hint_tag(model), "tag_field": "type"} if hint_tag(model) else {}
        fields = [field for field in fields if not (tag and field[0] == "type")]
        made[model] = msgspec.defstruct(model.__name__, fields, kw_only=True, frozen=True, **tag)
    return made[model]


def hint_tag(model: type[pydantic.BaseModel]) -> str | None:
    """Return the one type that a model is for."""
    info = model.model_fields.get("type")
    known = info and getattr(info.annotation, "__origin__", None) is Literal
    return info.annotation.__args__[0] if known else None


def replaced(hint: Any, made: dict[Any, Any]) -> Any:
    """Return a type hint with structs in the place of models."""
    if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
        return struct(hint, made)
    if hint is datetime:
        return str  # msgspec reads no epoch from text
    origin, arguments = getattr(hint, "__origin__", None), getattr(hint, "__args__", ())
    parts = tuple(replaced(argument, made) for argument in arguments)
    if origin is list:
        return tuple[(*parts, ...)]  # type: ignore[valid-type]  # built at run time
    if origin is dict:
        return dict[parts]  # type: ignore[valid-type]  # built at run time
    if arguments and origin is not Literal:
        union: Any = parts[0]
        for part in parts[1:]:
            union |= part
        return union
    return hint


# measuring -----------------------------------------------------------------------------------------------


def each(read: Callable[[bytes], object]) -> Callable[[], None]:
    """Return a function that reads all bodies."""

    def turn() -> None:
        for body in BODIES:
            read(body)

    return turn


@contextlib.contextmanager
def without_orjson() -> Iterator[None]:
    """Parse as if orjson were not installed."""
    quick, _json._fast_loads = _json._fast_loads, None
    try:
        yield
    finally:
        _json._fast_loads = quick


def parse_with_stdlib() -> Callable[[], None]:
    """Return a function that reads all bodies without orjson."""
    turn = each(parse)

    def measured() -> None:
        with without_orjson():
            turn()

    return measured


def compare(contenders: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return each contender's median microseconds a body, over interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, turn in contenders.items():
            start = time.process_time()
            for _ in range(TURNS // len(BODIES)):
                turn()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(spent) / TURNS * 1e6 for name, spent in times.items()}


def all_read(body: bytes) -> None:
    """Parse, and look at the parts that are built late."""
    for event in parse(body):
        for name in ("referral", "contacts", "attachments", "phone"):
            getattr(event, name, None)


def bench_parse() -> bool:
    """P3."""
    tagged = struct(TaggedEnvelope, {})
    contenders = {
        "pydantic v2, union": each(PlainEnvelope.model_validate_json),
        "pydantic v2, discriminated union": each(TaggedEnvelope.model_validate_json),
        "msgspec, tagged structs": each(msgspec.json.Decoder(tagged).decode),
        "parse, orjson": each(parse),
        "parse, orjson, every part looked at": each(all_read),
        "parse, stdlib json": parse_with_stdlib(),
    }
    spent = compare(contenders)
    union, discriminated = spent["pydantic v2, union"], spent["pydantic v2, discriminated union"]
    print(
        f"webhook bytes -> typed event, {len(BODIES)} documented bodies, CPU per body; over the two unions:"
    )
    for name, micros in spent.items():
        print(f"  {name:36} {micros:7.2f} us  {micros / union:5.2f}  {micros / discriminated:5.2f}")
    quick, slow = spent["parse, orjson"] / union, spent["parse, stdlib json"] / union
    print(f"P3: {quick:.2f} with orjson (to reach: <= 1.0), {slow:.2f} with the standard library (<= 1.9)")
    return quick <= 1.0 and slow <= 1.9


# the receiver ----------------------------------------------------------------------------------------------


async def bare(request: Request) -> PlainTextResponse:
    """Parse the JSON and answer."""
    orjson.loads(await request.body())
    return PlainTextResponse("ok")


def apps() -> dict[str, Any]:
    """Return the bare endpoint and the receiver, each in Starlette."""
    receiver = WebhookReceiver("secret")

    @receiver.on_message
    async def handle(event: object) -> None:
        """Do nothing, as the bare endpoint does."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with receiver:
            yield

    return {
        "bare endpoint": Starlette(routes=[Route("/hooks/secret", bare, methods=["POST"])]),
        "receiver": Starlette(routes=[Mount("/hooks", receiver)], lifespan=lifespan),
    }


def serve(name: str, listening: socket.socket) -> None:
    """Serve one of the applications until terminated."""
    uvicorn.Server(uvicorn.Config(apps()[name], log_level="error")).run([listening])


def requests_per_second(port: int, seconds: float) -> float:
    """Post text messages with fresh ids over 16 connections for a while, from this thread alone."""
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    for link in links:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for link in links:
            count += 1
            event = {
                "id": f"ABEGkFMIcyRoAgo-{port}-{count}",
                "from": f"90555{count % 5000:07}",
                "type": "text",
            }
            body = json.dumps({"messages": event | {"text": "Hello", "timestamp": "1630913975"}}).encode()
            link.sendall(
                b"POST /hooks/secret HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        for link in links:
            answer = link.recv(4096)
            while not answer.endswith(b"ok") and not answer.endswith(b"ok\n"):
                answer += link.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer)
    for link in links:
        link.close()
    return count / (time.perf_counter() - until + seconds)


def bench_receiver() -> bool:
    """Requests per second, against an endpoint that parses the same JSON and does nothing else."""
    context = multiprocessing.get_context("fork")
    rates: dict[str, list[float]] = {"bare endpoint": [], "receiver": []}
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in rates:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
            # asyncio sets this on sockets that it made itself; else Nagle's algorithm costs 40 ms an answer.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            process = context.Process(target=serve, args=(name, listening), daemon=True)
            process.start()
            stack.callback(process.terminate)
            ports[name] = listening.getsockname()[1]
        for _ in range(6):
            for name, port in ports.items():
                rates[name].append(requests_per_second(port, 0.7))
    medians = {name: statistics.median(found[1:]) for name, found in rates.items()}
    ratio = medians["receiver"] / medians["bare endpoint"]
    print("requests per second:", ", ".join(f"{name} {rate:.0f}" for name, rate in medians.items()))
    print(f"receiver: {ratio:.2f} of the bare endpoint (to reach: >= 0.5)")
    return ratio >= 0.5


if __name__ == "__main__":
    benches = {"parse": bench_parse, "receiver": bench_receiver}
    results = [benches[name]() for name in sys.argv[1:] or benches]
    sys.exit(not all(results))
