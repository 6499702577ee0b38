"""Webhooks in a Django project: an async view around `receive`, and the server's lifespan in `asgi.py`."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from desk360_async.webhooks import WebhookReceiver


def make_app(receiver: WebhookReceiver):
    """Return an ASGI application that takes webhooks under `/hooks/SECRET`."""
    # settings.py
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="only for this recipe", ALLOWED_HOSTS=["127.0.0.1"])
    django.setup()

    # views.py
    @csrf_exempt
    async def webhook(request, secret):
        # Not request.body: its own limit, DATA_UPLOAD_MAX_MEMORY_SIZE, answers 400.
        content = request.read(2 * 1024 * 1024)
        status, body = await receiver.receive(secret, request.headers, content, method=request.method)
        return HttpResponse(body, status=status, content_type="text/plain")

    # urls.py
    urlpatterns.append(path("hooks/<str:secret>", webhook))

    # asgi.py: Django knows no lifespan, so the receiver takes it.
    django_app = get_asgi_application()

    async def application(scope, receive, send):
        app = receiver if scope["type"] == "lifespan" else django_app
        await app(scope, receive, send)

    return application


urlpatterns = []
