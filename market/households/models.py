"""People, homes, accounts and keys: all that names somebody. None of it ever enters the ledger."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    """What a person comes to do; see DESIGN section 1 for what each must never be able to."""

    HOUSEHOLD = "household", _("Household")
    OPERATOR = "operator", _("Grid operator")
    REGULATOR = "regulator", _("Regulator")
    STAFF = "staff", _("Market operator")


class People(UserManager["User"]):
    """Makes people; whoever is made on the command line as superuser is the market operator."""

    use_in_migrations = False

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **extra_fields: Any
    ) -> User:
        """Return a new member of the market operator's staff."""
        extra_fields.setdefault("role", Role.STAFF)
        return super().create_superuser(username, email, password, **extra_fields)


class User(AbstractUser):
    """A person who signs in."""

    objects = People()  # type: ignore[assignment,misc]

    role = models.CharField(max_length=16, choices=Role.choices, default=Role.HOUSEHOLD)
    language = models.CharField(max_length=16, blank=True, default="")


class Home(models.Model):
    """A grid connection with what stands behind it. ``code`` is the network's name for the connection."""

    code = models.CharField(max_length=64, unique=True)
    area = models.CharField(max_length=64, db_index=True)
    load_profiles = models.CharField(max_length=255, blank=True)  # names of standard load profiles joined by "+"
    pv_profile = models.CharField(max_length=64, blank=True)
    pv_w = models.BigIntegerField(default=0)
    battery_wh = models.BigIntegerField(default=0)
    battery_w = models.BigIntegerField(default=0)


class Account(models.Model):
    """Who stands behind a number of the ledger. ``index`` is the ledger's dense account index."""

    index = models.BigIntegerField(unique=True)
    account_id = models.CharField(max_length=32, unique=True)
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts")
    home = models.OneToOneField(Home, null=True, blank=True, on_delete=models.PROTECT, related_name="account")
    area = models.CharField(max_length=64, db_index=True)
    salt = models.BinaryField(max_length=32)  # of the identity commitment on the ledger
    automatic = models.BooleanField(default=True)  # an agent trades for it
    opened_at = models.DateTimeField()
    opened_seq = models.BigIntegerField(null=True, blank=True)  # the ledger's account entry
    closed_at = models.DateTimeField(null=True, blank=True)


class ApiKey(models.Model):
    """A key for programs. Only its SHA-256 is kept; ``prefix`` lets its owner recognise it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=255)  # space-separated, see households.keys.SCOPES
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)


class AccountRequest(models.Model):
    """A household that signed up and waits for the market operator to open its account."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="account_request")
    area = models.CharField(max_length=64)
    address = models.CharField(max_length=255)
    meter_number = models.CharField(max_length=64)
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    accepted = models.BooleanField(null=True, blank=True)


class Deposit(models.Model):
    """Money a member says it has sent; counts only once the market operator has confirmed it."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="deposits")
    amount_e7 = models.BigIntegerField()
    reference = models.CharField(max_length=64, unique=True)
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    accepted = models.BooleanField(null=True, blank=True)
    seq = models.BigIntegerField(null=True, blank=True)  # the ledger's fund entry
