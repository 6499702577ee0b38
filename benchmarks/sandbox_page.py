"""Requests a second of a sandbox over TCP, with and without its page open; the page may cost 5 %.

Run: `python -m benchmarks.sandbox_page [ROUNDS]`. A reader of the events takes the browser's place. Rounds
alternate. Seconds are the processor's in this process, so that other programs don't change them.
"""

import statistics
import subprocess
import sys
import time

import httpx

from desk360_async.sandbox import Sandbox

REQUESTS = 400
KEY = {"Authorization": "Bearer sandbox-key"}
MESSAGES = "/v1/integrations/11/conversations/messages"
_READER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as stream:
    print("open", flush=True)
    while stream.read1(65536):
        pass
"""


def rate(url: str) -> float:
    """Measure requests of one connection a second of the processor."""
    with httpx.Client(base_url=url, headers=KEY) as client:
        began = time.process_time()
        for _ in range(REQUESTS):
            client.post(MESSAGES, json={"to": "+905551112233", "text": "x"}).raise_for_status()
        return REQUESTS / (time.process_time() - began)


def rate_with_page(url: str) -> float:
    """Measure the same while a reader follows the events."""
    command = [sys.executable, "-c", _READER, f"{url}/_sandbox/events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        try:
            return rate(url)
        finally:
            reader.kill()


def main(rounds: int = 9) -> None:
    """Print both rates and the page's cost."""
    with Sandbox(limit=10_000_000).serve_in_thread() as running:
        rate(running.url)
        pairs = [(rate(running.url), rate_with_page(running.url)) for _ in range(rounds)]
    without, with_page = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"without a page {without:,.0f} requests/s, with the page open {with_page:,.0f} requests/s")
    print(f"the page costs {100 * (1 - with_page / without):.1f} %")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
