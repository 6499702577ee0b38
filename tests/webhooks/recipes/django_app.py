"""Webhooks in a Django project: an async view around `receive`, and the server's lifespan in `asgi.py`.

Django reads a request's whole body before any view or middleware is called, and without a deadline: no
view, async or not, can answer a slow body with 408. Where that matters, let `asgi.py` hand the path to the
receiver itself, as `make_app_in_front` does, or let the proxy in front of Django wait for the body.
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from desk360_async.webhooks import WebhookReceiver

if not settings.configured:  # your settings.py
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="only for this recipe", ALLOWED_HOSTS=["127.0.0.1"])
    django.setup()

urlpatterns = []


def make_app(receiver: WebhookReceiver):
    """Return an ASGI application that takes webhooks under `/hooks/SECRET`."""

    # views.py
    @csrf_exempt
    async def webhook(request, secret):
        content = request.read(
            2 * 1024 * 1024
        )  # request.body has a limit of its own, and answers it with 400
        status, body = await receiver.receive(secret, request.headers, content, method=request.method)
        return HttpResponse(body, status=status, content_type="text/plain")

    # urls.py
    urlpatterns[:] = [path("hooks/<str:secret>", webhook)]

    # asgi.py: Django knows no lifespan, so the receiver takes it.
    django_app = get_asgi_application()

    async def application(scope, receive, send):
        app = receiver if scope["type"] == "lifespan" else django_app
        await app(scope, receive, send)

    return application


def make_app_in_front(receiver: WebhookReceiver):
    """Return an ASGI application whose `/hooks/` never reach Django."""
    # asgi.py
    django_app = get_asgi_application()

    async def application(scope, receive, send):
        ours = scope["type"] == "lifespan" or scope["path"].startswith("/hooks/")
        await (receiver if ours else django_app)(scope, receive, send)

    return application
