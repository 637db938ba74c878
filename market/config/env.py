"""Settings read from the environment, each with a default and a clear error."""

import os

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def envstr(name: str, default: str) -> str:
    """Return the variable's text, or the default."""
    return os.environ.get(name, default)


def envbool(name: str, default: bool) -> bool:
    """Return the variable as a truth value; raise ``ImproperlyConfigured`` on anything but yes and no."""
    text = os.environ.get(name)
    if text is None:
        return default
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name}: expected yes or no, was {text!r}")


def envint(name: str, default: int) -> int:
    """Return the variable as an integer; raise ``ImproperlyConfigured`` on anything else."""
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: expected an integer, was {text!r}") from error


def envlist(name: str, default: str) -> list[str]:
    """Return the variable's comma-separated parts, without empty ones."""
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]
