"""Customers in PostgreSQL: the same answers as a file's, shared by hosts, and one pool for all stores."""

from datetime import timedelta
from pathlib import Path

import anyio
import psycopg
import pytest

from desk360_async import ConfigurationError
from desk360_async._postgres import _pools
from desk360_async.customers import Customers, Window
from desk360_async.once import SendLog
from tests.customers.test_store import NOON, PHONE, Clock, text
from tests.postgres import PASSWORD, Cluster

pytestmark = pytest.mark.anyio


async def test_hosts_see_each_others_windows_and_opt_outs(dsn: str) -> None:
    async with Customers(dsn, clock=Clock()) as one, Customers(dsn, clock=Clock()) as other:
        assert await one.feed(text("STOP", id_="a"), text("Merhaba", -60)) == 1
        assert await other.window(PHONE) == Window("open", NOON + timedelta(hours=24))
        assert await other.opted_out(PHONE)
        assert PHONE in await other.opt_outs()
        await other.opt_in(PHONE)
        assert PHONE not in await one.opt_outs()


async def test_an_opt_out_is_announced_by_one_host(dsn: str) -> None:
    heard: list[str] = []

    async def answer(message: object) -> None:
        heard.append("out")

    books = [Customers(dsn, clock=Clock(), on_opt_out=answer) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for book in books:
            tasks.start_soon(book.feed, text("STOP", id_="a"))
    for book in books:
        async with book:
            assert await book.opted_out(PHONE)
    assert heard == ["out"]


async def test_lists_are_loaded_and_exported(dsn: str, tmp_path: Path) -> None:
    async with Customers(dsn, clock=Clock()) as book:
        (tmp_path / "list.csv").write_text("phone\n" + "".join(f"+90555111{n:04}\n" for n in range(1000)))
        assert await book.load(tmp_path / "list.csv") == 1000
        assert await book.export(tmp_path / "out.csv") == 1000
        assert len(await book.opt_outs()) == 1000


async def test_a_forgotten_person_stays_opted_out_by_a_hash(dsn: str) -> None:
    async with Customers(dsn, clock=Clock()) as book:
        await book.opt_out(PHONE, "asked by phone")
        assert (await book.forget(PHONE), await book.forget(PHONE)) == (1, 0)
        assert await book.opted_out(PHONE)
        with psycopg.connect(dsn) as connection:
            assert PHONE[1:] not in str(connection.execute("SELECT * FROM desk360.customer").fetchall())
        await book.feed(text("START", 60, id_="b"))  # back, under the clear number
        assert not await book.opted_out(PHONE)
        assert len(await book.opt_outs()) == 0


async def test_the_stores_of_a_process_share_one_pool(dsn: str) -> None:
    async with Customers(dsn) as book, SendLog(dsn) as log:
        await book.window(PHONE)
        await log.get("order-1")
        (pool,) = [pool for (_, name), pool in _pools.items() if name == dsn]
        assert len(pool.users) == 2
    assert not [name for _, name in _pools if name == dsn]


async def test_a_database_that_is_down_is_named_without_its_password(dsn: str, postgres: Cluster) -> None:
    async with Customers(dsn) as book:
        assert PASSWORD not in repr(book)
        await book.window(PHONE)
        postgres.stop()
        try:
            with pytest.raises(ConfigurationError, match="customers' store in postgresql") as found:
                await book.window(PHONE)
        finally:
            postgres.start()
        assert PASSWORD not in str(found.value)
        assert await book.window(PHONE) == Window("unknown")
