"""django-oauth-toolkit as its documentation sets it up, over HTTPS.

Usage: python django_oauth_toolkit.py PORT CERTIFICATE KEY DATABASE SIGNING_KEY
It runs in an environment of its own, so it imports nothing of this project.
"""

import ssl
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest
from django.urls import include, path

SCAN = "scan@contoso.com"
LOGIN = (
    '<form method="post">{% csrf_token %}<input type="text" name="username">'
    '<input type="password" name="password"><input type="hidden" name="next" value="{{ next }}"></form>'
)
_, PORT, CERTIFICATE, KEY, DATABASE, SIGNING_KEY = sys.argv


class HttpsServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def setup_environ(self) -> None:
        super().setup_environ()
        self.base_environ["HTTPS"] = "on"
        self.base_environ["wsgi.url_scheme"] = "https"


def configure() -> None:
    settings.configure(
        SECRET_KEY="for a test",
        ALLOWED_HOSTS=["localhost"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        ROOT_URLCONF=__name__,
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "context_processors": ["django.template.context_processors.request"],
                    "loaders": [
                        ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN}),
                        "django.template.loaders.app_directories.Loader",
                    ],
                },
            }
        ],
        USE_TZ=True,
        LOGIN_URL="/accounts/login/",
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": Path(SIGNING_KEY).read_text(),
            "OAUTH2_VALIDATOR_CLASS": f"{__name__}.Validator",
            "SCOPES": {"openid": "OpenID Connect", "email": "Address", "offline_access": "Renewal"},
        },
    )


configure()
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from oauth2_provider.models import Application  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402
from oauth2_provider.views import ConnectDiscoveryInfoView  # noqa: E402


class Validator(OAuth2Validator):  # type: ignore[misc]
    """Adds the address to the ID token, as the documentation shows."""

    oidc_claim_scope = None

    def get_additional_claims(self, request: HttpRequest) -> dict[str, str]:
        return {"email": request.user.email}


urlpatterns = [
    path("accounts/login/", LoginView.as_view()),
    # Debian's version has this address with a slash at its end alone, which OpenID Connect Discovery section 4 has not.
    path("o/.well-known/openid-configuration", ConnectDiscoveryInfoView.as_view()),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]


def register() -> None:
    user = User.objects.create_user("scan", SCAN, "any")
    Application.objects.create(
        client_id="mailtoken",
        name="mailtoken",
        client_type="public",
        authorization_grant_type="authorization-code",
        redirect_uris="http://localhost:8444/callback",
        algorithm="RS256",
        user=user,
    )
    Application.objects.create(
        client_id="mailtoken-app",
        name="mailtoken-app",
        client_secret="mailtoken-secret",
        client_type="confidential",
        authorization_grant_type="client-credentials",
        user=user,
    )


if __name__ == "__main__":
    sys.modules["django_oauth_toolkit"] = sys.modules["__main__"]
    call_command("migrate", verbosity=0)
    register()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    with make_server("127.0.0.1", int(PORT), get_wsgi_application(), HttpsServer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.serve_forever()
