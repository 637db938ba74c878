"""People, homes, accounts and keys: all that names somebody. None of it ever enters the ledger.

What a reader could recognise a person by is sealed with a key of that person (``sealed``, ``keystore``), so that a dump of
this database says nothing about whoever was erased after it was made.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.validators import MaxLengthValidator, validate_email
from django.db import models
from django.utils.translation import gettext_lazy as _

from market.households import keystore
from market.households.sealed import LoginField, NameField, SealedField

NAME_LENGTH = 150  # of a name to sign in with, and of what a person is called
ADDRESS_LENGTH = 255
METER_LENGTH = 64
KEY_NAME_LENGTH = 80
DEVICE_NAME_LENGTH = 80


class Role(models.TextChoices):
    """What a person comes to do; see DESIGN section 1 for what each must never be able to."""

    HOUSEHOLD = "household", _("Household")
    OPERATOR = "operator", _("Grid operator")
    REGULATOR = "regulator", _("Regulator")
    STAFF = "staff", _("Market operator")


class Colours(models.TextChoices):
    """How rising and falling prices look: red means up in China and down elsewhere, so the default is neither."""

    NEUTRAL = "", _("hollow and filled, without colour")
    GREEN_UP = "green-up", _("green up, red down")
    RED_UP = "red-up", _("red up, green down")


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

    OWN_KEY = True

    objects = People()  # type: ignore[assignment,misc]

    username = NameField(  # type: ignore[assignment]
        unique=True,  # so is every ciphertext; names are told apart by ``login``
        max_length=NAME_LENGTH,
        validators=[UnicodeUsernameValidator(), MaxLengthValidator(NAME_LENGTH)],
    )
    login = LoginField(
        max_length=64,
        unique=True,
        editable=False,
        default="",
        error_messages={"unique": _("This name is taken.")},
    )
    first_name = SealedField(blank=True, default="", max_length=NAME_LENGTH)  # type: ignore[assignment]
    last_name = SealedField(blank=True, default="", max_length=NAME_LENGTH)  # type: ignore[assignment]
    email = SealedField(blank=True, default="", max_length=254, validators=[validate_email])  # type: ignore[assignment]
    person_key = models.CharField(max_length=32, default=keystore.new_id, editable=False)
    erasure_requested_at = models.DateTimeField(null=True, blank=True)

    role = models.CharField(max_length=16, choices=Role.choices, default=Role.HOUSEHOLD)
    language = models.CharField(max_length=16, blank=True, default="")
    time_zone = models.CharField(max_length=64, blank=True, default="")  # "" = the market's
    colours = models.CharField(max_length=16, blank=True, default="")  # of rising and falling prices, see ``Colours``
    # Keyed digest of the address that was confirmed by a link sent to it: only there a new password can be asked for.
    email_lookup = models.CharField(max_length=64, blank=True, default="", db_index=True, editable=False)

    def sealing_key(self) -> str:
        """Return the name of the key that seals what is known about this person."""
        return self.person_key


class Home(models.Model):
    """A grid connection with what stands behind it. ``code`` is the network's name for the connection."""

    code = models.CharField(max_length=64, unique=True)
    area = models.CharField(max_length=64, db_index=True)
    load_profiles = models.CharField(max_length=255, blank=True)  # names of standard load profiles joined by "+"
    pv_profile = models.CharField(max_length=64, blank=True)
    pv_w = models.BigIntegerField(default=0)
    battery_wh = models.BigIntegerField(default=0)
    battery_w = models.BigIntegerField(default=0)


class DeviceKind(models.TextChoices):
    """What a device measures; only meters say what goes through a connection."""

    METER = "meter", _("Meter")
    INVERTER = "inverter", _("Inverter")
    BATTERY = "battery", _("Battery")
    CHARGER = "charger", _("Charger")
    SUBSTATION = "substation", _("Substation meter")


class Device(models.Model):
    """Something that sends readings: a household's, or (``SUBSTATION``) an area's, registered by the grid operator.

    It shows who it is with an API key of its own or, where it has a ``public_key``, by signatures. ``opened_ms`` and
    ``revoked_ms`` are market time: outside of them its readings do not count. An inverter waits (``decided_at`` None) until the
    grid operator has confirmed what it may give.
    """

    device_id = models.CharField(max_length=32, unique=True)  # random, hex
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="devices")
    area = models.CharField(max_length=64, blank=True, default="", db_index=True)  # of a substation meter
    kind = models.CharField(max_length=16, choices=DeviceKind.choices)
    name = SealedField(max_length=DEVICE_NAME_LENGTH)
    rating_w = models.BigIntegerField()  # the most it takes or gives
    register_digits = models.SmallIntegerField(default=0)  # of its counter in Wh, 0 = it never rolls over
    public_key = models.CharField(max_length=64, blank=True, default="")  # Ed25519, hex
    once = models.CharField(max_length=64, blank=True, default="")  # of the request that registered it
    registered_at = models.DateTimeField()
    opened_ms = models.BigIntegerField()
    revoked_ms = models.BigIntegerField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    confirmed = models.BooleanField(null=True, blank=True)
    last_seen_ms = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "once"], condition=~models.Q(once=""), name="device_once"),
            models.UniqueConstraint(
                fields=["public_key"], condition=~models.Q(public_key=""), name="device_public_key_once"
            ),
        ]

    def sealing_key(self) -> str:
        """Return the name of its owner's key."""
        return self.user.person_key


class Account(models.Model):
    """Who stands behind a number of the ledger. ``index`` is the ledger's dense account index."""

    index = models.BigIntegerField(unique=True)
    account_id = models.CharField(max_length=32, unique=True)
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts")
    home = models.OneToOneField(Home, null=True, blank=True, on_delete=models.PROTECT, related_name="account")
    area = models.CharField(max_length=64, db_index=True)
    salt = models.BinaryField(max_length=32)  # of the commitment on the ledger; empty where ``identity`` has it
    # What the commitment on the ledger was made of, {"record", "salt"} as JSON; "" of an account that no person had.
    identity = SealedField(blank=True, default="")
    connection = models.CharField(max_length=64, blank=True, default="")  # as the ledger names it
    automatic = models.BooleanField(default=True)  # an agent trades for it
    opened_at = models.DateTimeField()
    opened_seq = models.BigIntegerField(null=True, blank=True)  # the ledger's account entry
    closed_at = models.DateTimeField(null=True, blank=True)

    def sealing_key(self) -> str:
        """Return the name of the key of the person behind the account."""
        assert self.user is not None, "only a person's account has something to seal"
        return self.user.person_key


class Connection(models.Model):
    """What the ledger calls a grid connection: a random number, found again by a keyed digest of its meter number."""

    lookup = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=64, unique=True)


class ApiKey(models.Model):
    """A key for programs. Only its SHA-256 is kept; ``prefix`` lets its owner recognise it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    device = models.ForeignKey(Device, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys")
    name = SealedField(max_length=KEY_NAME_LENGTH)
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(max_length=255)  # space-separated, see households.keys.SCOPES
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def sealing_key(self) -> str:
        """Return the name of its owner's key."""
        return self.user.person_key


class Consent(models.Model):
    """That a third party may read or trade for a person, by a key of its own, until the key expires or is revoked."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="consents")
    key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, related_name="consent")
    party = SealedField(max_length=KEY_NAME_LENGTH)
    granted_at = models.DateTimeField()

    def sealing_key(self) -> str:
        """Return the name of the key of who consents."""
        return self.user.person_key


class SignIn(models.Model):
    """A browser in which somebody is signed in. Which address it has is not kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_ins")
    session_key = models.CharField(max_length=40, unique=True)
    browser = SealedField(blank=True, default="", max_length=80)  # "Firefox on Linux", never the whole line it sent
    first_at = models.DateTimeField()
    seen_at = models.DateTimeField()  # to some minutes

    def sealing_key(self) -> str:
        """Return the name of the key of who is signed in."""
        return self.user.person_key


class Counted(models.Model):
    """The rows of the cache that attempts are counted in, where several processes share a database (``CACHES``).

    Django's own cache writes and reads them. Keys are keyed digests: no address and no name stands here.
    """

    cache_key = models.CharField(max_length=255, primary_key=True)
    value = models.TextField()
    expires = models.DateTimeField(db_index=True)


class Ending(models.Model):
    """That something ended by which somebody acts for a person: told to all processes (``endings``).

    The number may be nobody's any more; it says no more than that.
    """

    user = models.BigIntegerField()
    at = models.DateTimeField(db_index=True)


class AccountRequest(models.Model):
    """A household that signed up and waits for the market operator to open its account."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="account_request")
    area = models.CharField(max_length=64)
    address = SealedField(max_length=ADDRESS_LENGTH)
    meter_number = SealedField(max_length=METER_LENGTH)
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    accepted = models.BooleanField(null=True, blank=True)

    def sealing_key(self) -> str:
        """Return the name of the key of who asks."""
        return self.user.person_key


def renewal_token() -> str:
    """Return a random text by which the ledger's entries of one change are found again."""
    return secrets.token_hex(32)


class Renewal(models.Model):
    """Money of a member on its way from an earlier account number to the present one, through the bank's account.

    The row is there before anything is opened or moves, so that what was cut short is finished as it was begun; and there is
    one at a time, so that two who begin at once do it once.
    """

    old = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    new = models.ForeignKey(Account, null=True, on_delete=models.PROTECT, related_name="+")  # None: not open yet
    account_id = models.CharField(max_length=32, blank=True, default="")  # the new account's, where this opens one
    identity = SealedField(blank=True, default="")  # and what its commitment is made of
    token = models.CharField(max_length=64, default=renewal_token)  # what the ledger's fund entries refer to, digested
    amount_e7 = models.BigIntegerField()  # 0: the change is begun, its amount not set yet
    at = models.DateTimeField()
    out_seq = models.BigIntegerField(null=True, blank=True)  # the ledger's fund entries
    in_seq = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["old"], condition=models.Q(in_seq=None), name="renewal_one_under_way")
        ]

    def sealing_key(self) -> str:
        """Return the name of the key of the person whose number changes."""
        return self.old.sealing_key()


class Access(models.Model):
    """That somebody in office read about somebody: one row a reader, kind, subject and hour, however often.

    Numbers, not keys: the row outlives neither its reader's nor its subject's name. ``account`` -1: none, ``person`` 0: none;
    both: everybody's (the ledger's bundles). ``consent`` names the consent by which a third party read; 0: none.
    """

    hour = models.DateTimeField()
    at = models.DateTimeField()  # of the first time in the hour
    reader = models.BigIntegerField()
    role = models.CharField(max_length=16)
    kind = models.CharField(max_length=16)  # see ``accesslog.KINDS``
    account = models.BigIntegerField(default=-1)
    person = models.BigIntegerField(default=0)
    consent = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "person", "hour", "reader", "kind", "consent"], name="access_once_an_hour"
            )
        ]
        indexes = [
            models.Index(fields=["reader", "at"], name="access_reader"),
            models.Index(fields=["person", "at"], name="access_person"),
            models.Index(fields=["at"], name="access_at"),
        ]
