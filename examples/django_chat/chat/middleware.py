"""What browsers are told about every page."""

from django.conf import settings


def content_security_policy(get_response):
    """Nothing is loaded or run but what this site serves, and pages connect to it and to the sockets only."""
    policy = f"default-src 'self'; connect-src 'self' {settings.CHAT_SOCKETS}; frame-ancestors 'none'; base-uri 'none'"

    def middleware(request):
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware
