"""The settings of a shop without a database."""

import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or "only-for-development"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "shop"
USE_TZ = True
WEBHOOK_SECRET = os.environ["WEBHOOK_SECRET"]
