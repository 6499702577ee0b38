"""The interface is enough to write a limiter on Redis: the example is run as it is."""

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint

from desk360_async import RateLimiter, RateLimitWaitTooLong
from tests.limiter.servers import WindowFromFirstHit, answer

redis = pytest.importorskip("redis.asyncio")

pytestmark = [pytest.mark.real, pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[str]:
    """A Redis server of our own, on a socket in the test's folder.

    It lives for a minute at most: redis-py's reads and closings have no timeout, and fail once it is gone.
    """
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    path = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True) as server:
        end = threading.Timer(60, server.kill)
        end.start()
        try:
            assert any("eady to accept connections" in line for line in server.stdout or ())
            yield str(path)
        finally:
            server.terminate()
            server.wait()
            end.cancel()


async def test_two_hosts_share_one_limit(socket: str) -> None:
    """30 a second between them for three seconds, and the server refuses none."""
    from tests.limiter.redis_limiter import RedisLimiter

    server, statuses = WindowFromFirstHit(30, 1.0), list[int]()
    clock = asyncio.get_running_loop().time

    async def send(limiter: RateLimiter) -> None:
        while True:
            permit = await limiter.acquire("interactive", None)
            reply = answer(server, clock())
            statuses.append(reply.status)
            permit.done(reply.status, reply.headers)
            await checkpoint()

    async with redis.Redis(unix_socket_path=socket) as one, redis.Redis(unix_socket_path=socket) as two:
        hosts = [RedisLimiter(client, 30, 1.0) for client in (one, two)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0), asyncio.TaskGroup() as tasks:
                for limiter in hosts * 3:
                    tasks.create_task(send(limiter))
        await asyncio.gather(*(end for host in hosts for end in list(host.ends.values())))
    assert set(statuses) == {200}
    assert len(statuses) >= 75


async def test_a_refusal_pauses_everyone_and_max_wait_is_kept(socket: str) -> None:
    """`Retry-After: 5` is six seconds for the other host as well; an unused token is back at once."""
    from tests.limiter.redis_limiter import RedisLimiter

    async with redis.Redis(unix_socket_path=socket) as client:
        limiter = RedisLimiter(client, 1)
        (await limiter.acquire("bulk", None)).unused()
        await asyncio.gather(*limiter.ends.values())
        permit = await limiter.acquire("interactive", 0.0)
        permit.done(429, {"retry-after": "5"})
        await asyncio.gather(*limiter.ends.values())
        with pytest.raises(RateLimitWaitTooLong) as caught:
            await RedisLimiter(client, 2).acquire("interactive", 1.0)
        assert caught.value.eta == pytest.approx(6.0, abs=0.5)
