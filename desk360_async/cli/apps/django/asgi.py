"""The app that uvicorn runs: Django, and beside it the webhooks and the client's life.

Django has no lifespan, so the receiver takes it. Requests under /hooks/ go past Django, which reads a whole
body before a view: give Desk360 https://your.host/hooks/SECRET.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django_app = get_asgi_application()

import shop  # noqa: E402 - its settings must be there


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        async with shop.make_client() as shop.desk360:
            await shop.receiver(scope, receive, send)  # returns at the app's end
    elif scope["path"].startswith("/hooks/"):
        await shop.receiver(scope, receive, send)
    else:
        await django_app(scope, receive, send)
