"""The app that uvicorn runs: Django, the receiver of webhooks, and the client.

Django has no lifespan, so the receiver handles it. Requests under /hooks/ go to the receiver and not to Django,
which reads a whole body before a view. Give Desk360 the URL https://your.host/hooks/SECRET.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django_app = get_asgi_application()

import shop  # noqa: E402 - it needs the settings


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        async with shop.make_client() as shop.desk360:
            await shop.receiver(scope, receive, send)  # returns at the app's end
    elif scope["path"].startswith("/hooks/"):
        await shop.receiver(scope, receive, send)
    else:
        await django_app(scope, receive, send)
