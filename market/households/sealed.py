"""Columns that only their person's key opens: readable in Python, ciphertext in the database and in every backup of it."""

from __future__ import annotations

import unicodedata
from typing import Any

from django.core.exceptions import FieldError
from django.db import models
from django.db.models.expressions import Col
from django.db.models.lookups import Exact

from market.households import keystore


class Sealed(str):
    """A text that is ciphertext already."""


class SealedField(models.TextField):
    """A text encrypted with the key that the instance's ``sealing_key()`` names; "" stays "".

    A model whose ``OWN_KEY`` is true, as that of people is, has a key for each row, made with the row.
    It cannot be searched, and it is written through instances only: ``QuerySet.update`` would not know whose key to take.
    """

    def _place(self) -> str:
        return f"{self.model._meta.label_lower}.{self.name}"

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        text: str = getattr(model_instance, self.attname)
        if not text:
            return ""
        key: str = model_instance.sealing_key()  # type: ignore[attr-defined]
        if add and getattr(model_instance, "OWN_KEY", False):
            keystore.store().make(key)
        return Sealed(keystore.seal(key, text, self._place()))

    def get_prep_value(self, value: Any) -> Any:
        if value in (None, "") or isinstance(value, Sealed):
            return value
        raise TypeError(f"{self._place()}: expected to be saved with its instance, was given a plain text")

    def from_db_value(self, value: str | None, *args: Any) -> str | None:
        """Return the plain text; "" when the person was erased."""
        return keystore.unseal(value, self._place()) if value else value

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name == "isnull":
            return super().get_lookup(lookup_name)
        raise FieldError(f"{self._place()} is encrypted and cannot be searched")


def login_of(name: str) -> str:
    """Return the keyed digest of a name to sign in with; names that differ in case only are one."""
    return keystore.lookup("login", unicodedata.normalize("NFKC", name).casefold())


class _ByLogin(Exact):
    """Finds a person by name, through the digest beside it."""

    def __init__(self, lhs: Any, rhs: Any):
        super().__init__(Col(lhs.alias, lhs.output_field.model._meta.get_field("login")), login_of(str(rhs)))


class NameField(SealedField):
    """The name a person signs in with. It can be looked up as a whole, by the digest in the column ``login``."""

    def get_lookup(self, lookup_name: str) -> Any:
        return _ByLogin if lookup_name in ("exact", "iexact") else super().get_lookup(lookup_name)


class LoginField(models.CharField):
    """The keyed digest of ``username``, kept in step with it."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        digest = login_of(model_instance.username)  # type: ignore[attr-defined]
        setattr(model_instance, self.attname, digest)
        return digest
