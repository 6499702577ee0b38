"""A limiter for several hosts behind one address, on Redis: the whole of `RateLimiter` in one file.

Tokens are members of a sorted set, scored with the time (Redis's own) at which they come back.
"""

import asyncio
import uuid
from collections.abc import Mapping

from redis.asyncio import Redis

from desk360_async import Lane, Permit, RateLimitStatus, RateLimitWaitTooLong

PERIOD, HOLD = 60.0, 120 + 30 + 60.0  # seconds; a token nobody tells of is back after HOLD

TAKE = """local t = redis.call('TIME'); local now = t[1] + t[2] / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local gate = tonumber(redis.call('GET', KEYS[1] .. ':gate') or 0)
local free = redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2])
if free and gate <= now then redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1]); return '0' end
local first = free and now or tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
return tostring(math.max(gate, math.min(first, now + ARGV[4])) - now)"""
END = """local t = redis.call('TIME'); local now = t[1] + t[2] / 1e6
if tonumber(ARGV[2]) > 0 then redis.call('ZADD', KEYS[1], 'LT', now + ARGV[2], ARGV[1])
else redis.call('ZREM', KEYS[1], ARGV[1]) end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1] .. ':gate', now + ARGV[3], 'EX', 3600) end"""


class RedisPermit:
    def __init__(self, limiter: "RedisLimiter", token: str) -> None:
        self.limiter, self.token = limiter, token

    def done(self, status: int, headers: Mapping[str, str]) -> None:
        wait = headers.get("retry-after", "60") if status == 429 else "-1"
        self.limiter.end(self.token, self.limiter.period + 0.05, float(wait) + 1 if wait.isdigit() else 0)

    def lost(self) -> None:
        self.limiter.end(self.token, self.limiter.period + 30, 0)

    def unused(self) -> None:
        self.limiter.end(self.token, 0, 0)


class RedisLimiter:
    def __init__(self, redis: "Redis", limit: int = 60, period: float = PERIOD, key: str = "desk360") -> None:
        self.redis, self.limit, self.period, self.key = redis, limit, period, key
        self.ends: dict[str, asyncio.Task[object]] = {}
        self.lines = {"interactive": asyncio.Lock(), "bulk": asyncio.Lock()}

    async def acquire(self, lane: Lane, max_wait: float | None) -> Permit:
        clock = asyncio.get_running_loop().time
        start, token = clock(), uuid.uuid4().hex
        async with self.lines[lane]:  # first come, first served; one of us asks for all of them
            while True:
                wait = float(await self.redis.eval(TAKE, 1, self.key, token, self.limit, HOLD, self.period))
                if not wait:
                    return RedisPermit(self, token)
                if max_wait is not None and clock() + wait > start + max_wait:
                    raise RateLimitWaitTooLong(f"no token within {max_wait} s", eta=wait)
                await asyncio.sleep(wait + (0.05 if lane == "bulk" else 0))

    def end(self, token: str, back: float, gate: float) -> None:
        task = asyncio.ensure_future(self.redis.eval(END, 1, self.key, token, back, gate))
        self.ends[token] = task  # asyncio itself keeps only a weak reference
        task.add_done_callback(lambda _: self.ends.pop(token))

    def snapshot(self) -> RateLimitStatus:
        now = asyncio.get_running_loop().time()
        return RateLimitStatus(self.limit, self.period, 0, 0, 0, {}, None, 0.0, now)  # ask Redis for more
