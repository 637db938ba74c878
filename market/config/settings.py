"""Django settings. Everything that differs between installations comes from the environment (``docs/operations``)."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from market.config.env import envbool, envint, envlist, envstr

BASE_DIR = Path(__file__).resolve().parents[2]
FRONTEND = BASE_DIR / "frontend" / "dist"
DATA_DIR = Path(envstr("SUNLEDGER_DATA", str(BASE_DIR / "var")))
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEMO = envbool("SUNLEDGER_DEMO", False)
DEBUG = envbool("SUNLEDGER_DEBUG", False)


def _secret_key() -> str:
    """Return the configured secret, or one made once and kept in the data folder (mode 0600)."""
    given = envstr("SUNLEDGER_SECRET_KEY", "")
    if given:
        return given
    path = DATA_DIR / "secret_key"
    if not path.exists():
        import os
        import secrets

        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(48))
    text = path.read_text()
    if not text:
        raise ImproperlyConfigured(f"{path}: expected a secret key, was empty")
    return text


def _networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Return the addresses and networks in a list."""
    if envstr("SUNLEDGER_FORWARDED_FOR", ""):
        raise ImproperlyConfigured(f"SUNLEDGER_FORWARDED_FOR: set {name} to the proxy's address instead (127.0.0.1)")
    try:
        return [ip_network(text) for text in envlist(name, "")]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: expected addresses or networks, was wrong: {error}") from None


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = envlist("SUNLEDGER_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = envlist("SUNLEDGER_ORIGINS", "")

# --- notifications ---------------------------------------------------------------------------------------------------
PUSH_KEY_FILE = Path(envstr("SUNLEDGER_PUSH_KEY_FILE", str(DATA_DIR / "push_key")))  # of Web Push; made at first use
# Hosts that push messages may go to, "*.x" for those below x: a browser names the address, see market.notices.addresses.
PUSH_SERVICES = envlist(
    "SUNLEDGER_PUSH_SERVICES",
    "fcm.googleapis.com,updates.push.services.mozilla.com,*.push.services.mozilla.com,*.push.apple.com,"
    "*.notify.windows.com",
)

# --- the market ------------------------------------------------------------------------------------------------------
LEDGER_ORIGIN = envstr("SUNLEDGER_LEDGER_ORIGIN", "sunledger.example/city")
LEDGER_KEY_FILE = Path(envstr("SUNLEDGER_LEDGER_KEY_FILE", str(DATA_DIR / "ledger_key")))
LEDGER_SIGNER = envstr("SUNLEDGER_LEDGER_SIGNER", "")  # unix:PATH of a ledger_signer; "" = keys of LEDGER_KEY_FILE
LEDGER_POLICY_FILE = envstr("SUNLEDGER_LEDGER_POLICY", "")  # witnesses and their quorum (tlog-policy); "" = none
LEDGER_SALT_FILE = Path(envstr("SUNLEDGER_LEDGER_SALT_FILE", str(DATA_DIR / "ledger_salt")))
# A key for every person: outside of backups, so that destroying one is forgetting (docs/operations).
PERSON_KEYS_FILE = Path(envstr("SUNLEDGER_PERSON_KEYS_FILE", str(DATA_DIR / "person_keys")))
ACCESS_LOG_DAYS = envint("SUNLEDGER_ACCESS_LOG_DAYS", 365)  # how long it is kept who read what about whom
EXPORTS_DIR = Path(envstr("SUNLEDGER_EXPORTS", str(DATA_DIR / "exports")))  # files that the regulator had made
RENEWAL_DAYS = envint("SUNLEDGER_RENEWAL_DAYS", 28)  # a member may ask for a new account number that often; 0 = never
PUBLISHED_CHECKPOINT_FILE = Path(envstr("SUNLEDGER_PUBLISHED_CHECKPOINT", str(DATA_DIR / "published_checkpoint")))
# Entry bundles and rows without a key: only in the demo (DESIGN: they hold what single homes did).
LEDGER_OPEN = envbool("SUNLEDGER_LEDGER_OPEN", DEMO)
LEDGER_ACCESS = "market.api.ledger.key_may_read"  # whether a request for them carries a key that may
LEDGER_SNAPSHOTS = "market.exchange.snapshots"  # the module that has the states followers may start from
LEDGER_NOTED = "market.api.ledger.note_read"  # who reads them is noted
# What else knows something about a person: modules with ``obstacle(accounts)`` and ``forget(accounts)``.
PAYOUTS = "market.payments.personal"  # pays out who leaves; above the package that closes accounts
PERSONAL_DATA = [
    "market.payments.personal",
    "market.disputes.personal",
    "market.settlement.personal",
    "market.agents.personal",
]
# The account at the bank that members pay into and are paid from; without it no payout file can be made.
BANK_IBAN = envstr("SUNLEDGER_BANK_IBAN", "DE75512108001245126199" if DEMO else "").replace(" ", "")
BANK_BIC = envstr("SUNLEDGER_BANK_BIC", "")
BANK_HOLDER = envstr("SUNLEDGER_BANK_HOLDER", "Sunledger")
# Whole units of currency; above it a deposit or withdrawal needs two members of staff.
ONE_PERSON_LIMIT = envint("SUNLEDGER_ONE_PERSON_LIMIT", 1_000)
MARKET_CURRENCY = envstr("SUNLEDGER_CURRENCY", "EUR")
MARKET_INTERVAL_MIN = envint("SUNLEDGER_INTERVAL_MIN", 15)
MARKET_TIME_ZONE = envstr("SUNLEDGER_TIME_ZONE", "Europe/Berlin")
LEVIES_FILE = envstr("SUNLEDGER_LEVIES", "")  # taxes and levies on statements; "" = the table we ship

MQTT_USER = envstr("SUNLEDGER_MQTT_USER", "")  # of ``mqtt_gateway`` at its broker
MQTT_PASSWORD = envstr("SUNLEDGER_MQTT_PASSWORD", "")

# --- Django ----------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "ledger",
    "market.exchange",
    "market.households",
    "market.metering",
    "market.grid",
    "market.payments",
    "market.settlement",
    "market.disputes",
    "market.surveillance",
    "market.agents",
    "market.follow",
    "market.streaming",
    "market.notices",
    "market.api",
    "market.pages",
    "market.simulator",
    "market.config",
]

MIDDLEWARE = [
    "market.api.hosts.HostCheck",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "market.pages.visits.Visits",
]

ROOT_URLCONF = "market.config.urls"
ASGI_APPLICATION = "market.config.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "NAME": "django",
        "BACKEND": "market.pages.typesetting.Templates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
                "market.pages.context.page",
            ],
        },
    }
]

DATABASES = {
    "default": dj_database_url.parse(
        envstr("DATABASE_URL", f"sqlite:///{DATA_DIR / 'sunledger.sqlite3'}"),
        conn_max_age=600,
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # A row that is replaced is deleted: only so the triggers of what is append-only see it (market.exchange.guards).
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=20000; "
        "PRAGMA recursive_triggers=ON;",
    }
    # Threads share a test database only through a file.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
# The tables' owner, on PostgreSQL: only ``secure_database`` connects as it.
MIGRATION_DATABASE_URL = envstr("MIGRATION_DATABASE_URL", "")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "households.User"
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

PASSWORD_RESET_TIMEOUT = 24 * 3_600  # seconds; the page that sends the link says so
# Sign-in in steps, passkeys, authenticator apps, recovery codes and the reset of passwords are django-allauth's; its tables of
# e-mail addresses stay empty, as they would hold them in the clear (``households.emails``).
STAFF_SECOND_FACTOR = envbool("SUNLEDGER_STAFF_SECOND_FACTOR", False)  # whether all in office need a second factor
ACCOUNT_ADAPTER = "market.pages.signingin.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
# Beside allauth's own limits; "key" is a name together with the address that tries it: strangers must not lock anybody out.
# In this order they are counted, up to the first that refuses: the address's comes first, or every name it invents is a row.
ACCOUNT_RATE_LIMITS = {
    "sign_in": "50/5m/ip,10/5m/key",  # wrong passwords; ours (market.pages.auth)
    "signup": "20/h/ip",
    "reset_password": "20/m/ip,5/h/key",
    "reauthenticate": "10/5m/user",
}
ACCOUNT_FORMS = {
    "reset_password": "market.pages.authforms.ResetForm",
    "reset_password_from_key": "market.pages.authforms.NewPasswordForm",
    "reauthenticate": "market.pages.authforms.PasswordAgainForm",
}
MFA_ADAPTER = "market.pages.signingin.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_USER_VERIFICATION = "required"  # a passkey is two factors: the device and who may open it
MFA_TOTP_TOLERANCE = 1  # a clock may be wrong by half a minute
MFA_FORMS = {
    "authenticate": "market.pages.authforms.CodeForm",
    "reauthenticate": "market.pages.authforms.CodeAgainForm",
    "activate_totp": "market.pages.authforms.NewAppForm",
    "add_webauthn": "market.pages.authforms.PasskeyForm",
    "login_webauthn": "market.pages.authforms.PasskeyLoginForm",
    "authenticate_webauthn": "market.pages.authforms.PasskeyFactorForm",
    "reauthenticate_webauthn": "market.pages.authforms.PasskeyAgainForm",
}

# Attempts are counted here, and codes noted that were used: with few places, strangers' wrong names would push the count of a
# guessed one out. SQLite means one process, whose memory will do; on PostgreSQL a table counts for all processes.
_PLACES = {"OPTIONS": {"MAX_ENTRIES": 50_000}}
_MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", **_PLACES}
_TABLE = {
    "BACKEND": "django.core.cache.backends.db.DatabaseCache",
    "LOCATION": "households_counted",
    "KEY_FUNCTION": "market.households.keystore.cache_key",
    **_PLACES,
}
CACHES = {
    "default": _MEMORY if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3" else _TABLE,
    "figures": _MEMORY,  # what can be worked out again (market.exchange.figures)
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"


def _build() -> str:
    """Return a short digest of all static files: part of their addresses, so that browsers may keep them for ever."""
    import hashlib

    digest = hashlib.sha256()
    for folder in (FRONTEND, BASE_DIR / "market" / "api" / "static"):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


BUILD = _build()
STATIC_URL = f"/static/{BUILD}/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [FRONTEND]
WHITENOISE_USE_FINDERS = True  # no collectstatic step on the embedded default
WHITENOISE_IMMUTABLE_FILE_TEST = r""  # all of them: other files would have another address

# --- security --------------------------------------------------------------------------------------------------------
HTTPS = envbool("SUNLEDGER_HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = HTTPS
# The proxies in front: what they add to X-Forwarded-For is believed, and attempts are counted for each client of theirs.
TRUSTED_PROXIES = _networks("SUNLEDGER_PROXIES")
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF, "ws:", "wss:"] if DEBUG else [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024  # the largest legal body, a batch of 1,000 orders, has about 200 kB

# --- e-mail ----------------------------------------------------------------------------------------------------------
PUBLIC_URL = envstr("SUNLEDGER_URL", "http://localhost:8000").rstrip("/")  # of links in e-mails
EMAIL_HOST = envstr("SUNLEDGER_MAIL_HOST", "")  # "" = e-mails are written to the console
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"
EMAIL_PORT = envint("SUNLEDGER_MAIL_PORT", 587)
EMAIL_USE_TLS = envbool("SUNLEDGER_MAIL_TLS", True)
EMAIL_HOST_USER = envstr("SUNLEDGER_MAIL_USER", "")
EMAIL_HOST_PASSWORD = envstr("SUNLEDGER_MAIL_PASSWORD", "")
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = envstr("SUNLEDGER_MAIL_FROM", "Sunledger <summary@sunledger.example>")

# --- REST ------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "market.api.authentication.KeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "market.api.problems.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "POSTPROCESSING_HOOKS": ["market.api.openapi.add_lean"],
    "SERVE_PUBLIC": True,
    "TITLE": "Sunledger",
    "DESCRIPTION": "Trade local solar energy, follow prices, verify the ledger.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {"no_trace": {"()": "market.config.logs.NoTraceOfRefusals"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["no_trace"]}},
    "loggers": {"fontTools": {"level": "WARNING"}, "fpdf": {"level": "WARNING"}},  # a line for every glyph of a PDF
    "root": {"handlers": ["console"], "level": envstr("SUNLEDGER_LOG_LEVEL", "INFO")},
}
