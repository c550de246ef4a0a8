"""Settings of the project. What differs from place to place is in the environment, with defaults for development."""

import os
from pathlib import Path

from twisted_chat.consumers import send_through

BASE_DIR = Path(__file__).parent.parent
KEYS = Path(os.environ.get("CHAT_KEYS", BASE_DIR / "keys"))

DEBUG = os.environ.get("DJANGO_DEBUG", "yes") == "yes"
SECRET_KEY = (KEYS / "django-secret").read_text().strip()
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1 localhost").split()

# The chat: where the pages find the sockets (empty: on their own host, where a proxy leads to twisted_chat), where the
# views find the server, and what both share with it.
CHAT_SOCKETS = os.environ.get("CHAT_SOCKETS", "ws://127.0.0.1:8080")
CHAT_SERVER = os.environ.get("CHAT_SERVER", "http://127.0.0.1:8080")
CHAT_TOKEN_KEY_FILE = KEYS / "token-key"
CHAT_TOKEN_SECONDS = 600
# What makes `Group.send` work in views: it asks the server, with an API key.
send_through(CHAT_SERVER, (KEYS / "api-keys").read_text().split()[0])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "chat",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chat.middleware.content_security_policy",
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# The web application and the workers write at the same time. SQLite can do that if each transaction says at its
# beginning that it will write, and readers do not hold up writers. With many users take PostgreSQL.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CHAT_DATABASE", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "rooms"
LOGOUT_REDIRECT_URL = "login"

# Cookies only over TLS, where there is TLS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if not DEBUG else None

REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("CHAT_STATIC", BASE_DIR / "static")
