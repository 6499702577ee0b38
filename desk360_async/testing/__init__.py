"""Tests of your own code: a sandbox and a client in process and in virtual time, samples, a pytest plugin.

    async with sandbox_client() as (client, sandbox):
        await client.send_text("+905551112233", "Hello!")
        sandbox.assert_sent(to="+905551112233", text="Hello!")

With pytest there is the fixture `desk360_sandbox`, and a guard that fails tests which try to reach Desk360
itself, unless they are marked `desk360_live`. Needs the extra `testing`.

No port is opened, and no test waits: the rate limit, backoff and the sandbox's faults use a virtual clock,
which jumps. Only public names are here. Each is loaded when it is first used, since pytest loads this package
in each run where it is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._clock import VirtualBucket, VirtualClock
    from ._samples import ANSWERS, WEBHOOKS, answer_sample, webhook_sample
    from ._sandbox import VirtualSandbox, sandbox_client

__all__ = [
    "ANSWERS",
    "VirtualBucket",
    "VirtualClock",
    "VirtualSandbox",
    "WEBHOOKS",
    "answer_sample",
    "sandbox_client",
    "webhook_sample",
]

_HOME_OF = {
    "ANSWERS": "_samples",
    "VirtualBucket": "_clock",
    "VirtualClock": "_clock",
    "VirtualSandbox": "_sandbox",
    "WEBHOOKS": "_samples",
    "answer_sample": "_samples",
    "sandbox_client": "_sandbox",
    "webhook_sample": "_samples",
}

# Type checkers would accept every name if they saw this function.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'desk360_async.testing' has no attribute {name!r}")
        return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
