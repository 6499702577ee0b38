"""Each recipe of the guide, as printed, in a server: it takes a webhook, and its handler runs."""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

import desk360_async

pytestmark = pytest.mark.real

FOLDER = Path(str(desk360_async.__file__)).parent / "guide" / "recipes"
SECRET = "a-secret-of-thirty-two-characters"
BODY = b'{"messages": {"id": "a", "from": "905551112233", "type": "text", "text": {"body": "hi"}}}'
ASGI = ["fastapi", "starlette", "litestar", "quart", "django"]
WSGI = ["flask", "django-wsgi"]


def code(name: str) -> str:
    """Return the Python block of a recipe."""
    (block,) = re.findall(r"```python\n(.*?)```", (FOLDER / f"{name}.md").read_text("utf-8"), re.DOTALL)
    return str(block)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Load a recipe as a module, as a user who copied it."""
    name: str = request.param
    framework = name.partition("-")[0]
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    if framework == "django":
        _set_up_django()
    (tmp_path / "app.py").write_text(code(name), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"recipe_{name.replace('-', '_')}", tmp_path / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _set_up_django() -> None:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["127.0.0.1"])
        django.setup()


def seen_by(recipe: Any) -> list[str]:
    """Return a list that fills with the ids of handled messages."""
    seen: list[str] = []

    @recipe.receiver.on_message
    async def keep(message: Any) -> None:
        seen.append(message.id)

    return seen


def check(hosts: Any, serving: AbstractContextManager[int], seen: list[str]) -> None:
    """Post a webhook, a wrong secret and a probe; the handler has run when the server has ended."""
    with serving as port:
        assert hosts.request(port, "POST", f"/hooks/{SECRET}", BODY) == (200, b"ok\n")
        assert hosts.request(port, "POST", "/hooks/wrong", BODY)[0] == 404
        assert hosts.request(port, "GET", f"/hooks/{SECRET}")[0] == 200
    assert seen == ["a"]


@pytest.mark.parametrize("recipe", ASGI, indirect=True)
def test_an_asgi_recipe_takes_a_webhook(recipe: Any, hosts: Any) -> None:
    seen = seen_by(recipe)
    check(hosts, hosts.on_uvicorn(recipe.app), seen)


@pytest.mark.parametrize("recipe", ["aiohttp"], indirect=True)
def test_the_aiohttp_recipe_takes_a_webhook(recipe: Any, hosts: Any) -> None:
    seen = seen_by(recipe)
    check(hosts, hosts.on_aiohttp(recipe.app), seen)


@pytest.mark.parametrize("recipe", WSGI, indirect=True)
def test_a_wsgi_recipe_takes_a_webhook_in_a_thread_of_its_own(recipe: Any, hosts: Any) -> None:
    seen = seen_by(recipe)
    check(hosts, on_wsgi(recipe), seen)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write no line."""


@contextmanager
def on_wsgi(recipe: Any) -> Any:
    """Serve a WSGI application on a free port; give the port. Leaving closes the receiver's thread."""
    import threading

    if hasattr(recipe, "app"):
        app = recipe.app
    else:
        from django.conf import settings
        from django.core.wsgi import get_wsgi_application
        from django.urls import clear_url_caches, set_urlconf

        clear_url_caches()
        settings.ROOT_URLCONF = recipe.__name__
        set_urlconf(None)
        app = get_wsgi_application()
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
            recipe.running.close()


def test_a_process_that_ends_lets_the_handlers_run_first(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import anyio\n"
        "from desk360_async.webhooks import ReceiverThread, WebhookReceiver\n"
        f"receiver = WebhookReceiver({SECRET!r})\n"
        "@receiver.on_message\n"
        "async def slow(message):\n"
        "    await anyio.sleep(0.3)\n"
        "    print('handled', message.id, flush=True)\n"
        f"print(ReceiverThread(receiver).receive({SECRET!r}, {{}}, {BODY!r}).status)\n",
        encoding="utf-8",
    )
    ended = subprocess.run(
        [sys.executable, str(script)], env=dict(os.environ), capture_output=True, timeout=30, check=True
    )
    assert ended.stdout.split() == [b"200", b"handled", b"a"]


def test_each_recipe_is_tried_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*ASGI, *WSGI, "aiohttp"}
