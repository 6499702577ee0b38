"""The receiver for real: the same answers under every framework, on real sockets."""

import time
from contextlib import contextmanager

import pytest

from desk360_async.webhooks import WebhookReceiver

pytestmark = pytest.mark.real

SECRET = "a-secret-of-the-url"
HOOK = f"/hooks/{SECRET}"
FRAMEWORKS = ["alone", "starlette", "fastapi", "litestar", "quart", "aiohttp", "django", "django in front"]


def app_for(hosts, framework, receiver):
    """Return the framework's application around the receiver."""
    if framework == "alone":
        return receiver
    pytest.importorskip(framework.split()[0])
    if framework == "django":
        from django.urls import clear_url_caches

        clear_url_caches()  # Django keeps a URL's first view for the life of the process
    if framework in ("aiohttp", "django"):
        return hosts.recipe(f"{framework}_app").make_app(receiver)
    if framework == "django in front":
        return hosts.recipe("django_app").make_app_in_front(receiver)
    return getattr(hosts.recipe("asgi_hosts"), f"{framework}_app")(receiver)


@contextmanager
def served(hosts, framework):
    """Serve a receiver under a framework; give the port, the receiver and the ids that were handled."""
    receiver, seen = WebhookReceiver(SECRET, read_timeout=0.5), []

    @receiver.on_message
    async def keep(event):
        seen.append(event.id)

    serve = hosts.on_aiohttp if framework == "aiohttp" else hosts.on_uvicorn
    with serve(app_for(hosts, framework, receiver)) as port:
        yield port, receiver, seen


@pytest.fixture(scope="module", params=FRAMEWORKS)
def host(request, hosts):
    """Serve a receiver under each framework in turn."""
    with served(hosts, request.param) as (port, receiver, seen):
        yield request.param, port, receiver, seen


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        (
            "POST",
            HOOK,
            b'{"messages": {"id": "a", "text": "Hi", "from": "905551112233", "type": "text"}}',
            200,
        ),
        ("POST", "/hooks/wrong", b'{"messages": {"id": "b", "type": "text"}}', 404),
        ("POST", HOOK, b'{"messages": {"id": "c"}}'.ljust(2 * 1024 * 1024), 413),
        ("POST", HOOK, b"<html>garbage</html>", 400),
        ("POST", HOOK, b"", 400),
        ("GET", HOOK, None, 200),
        ("GET", "/hooks/wrong", None, 404),
        ("PUT", HOOK, b"{}", 405),
    ],
    ids=["right", "wrong", "2 MB", "garbage", "empty", "GET", "GET wrong", "PUT"],
)
def test_answers(hosts, host, method, path, body, status):
    """Each request has the same answer under every framework."""
    _, port, _, _ = host
    assert hosts.request(port, method, path, body, {"Content-Type": "application/json"})[0] == status


def test_slow_body(hosts, host):
    """A body that drips is 408 under every framework; but Django reads a body before its view."""
    framework, port, _, _ = host

    def drip():
        for byte in b'{"messages": {}}':
            time.sleep(0.08)
            yield bytes([byte])

    status, _ = hosts.request(port, "POST", HOOK, drip(), {"Content-Length": "16"})
    assert status == (200 if framework == "django" else 408)


def test_a_repeat(hosts, host):
    """A repeat is 200 as well, and is handled once, under every framework."""
    _, port, receiver, _ = host
    before = receiver.stats.duplicates
    body = b'{"messages": {"id": "twice", "from": "905551112233", "type": "text"}}'
    assert [hosts.request(port, "POST", HOOK, body)[0] for _ in range(2)] == [200, 200]
    assert receiver.stats.duplicates == before + 1


def test_documented_bodies(hosts, host, documented):
    """Each documented body is 200 under every framework."""
    _, port, _, _ = host
    assert hosts.request(port, "POST", HOOK, documented) == (200, b"ok\n")


def test_malformed_bodies(hosts, host, malformed):
    """Each malformed body has the same answer under every framework."""
    _, port, _, _ = host
    content, expected = malformed
    assert hosts.request(port, "POST", HOOK, content)[0] == (
        400 if expected["events"] == "InvalidWebhook" else 200
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_stop_drains(hosts, framework):
    """Under every framework the application's end waits for the queue; a repeat is handled once."""
    body = b'{"messages": [{"id": "a", "text": ""}, {"id": "b", "text": ""}, {"id": "a", "text": ""}]}'
    with served(hosts, framework) as (port, receiver, seen):
        assert hosts.request(port, "POST", HOOK, body)[0] == 200
    assert seen == ["a", "b"]
    assert receiver.queued == 0
