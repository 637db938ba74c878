"""A key for every person, in a file of its own that no backup takes along; destroying a key is forgetting the person.

Columns that name somebody are stored encrypted (``sealed``). A dump of the database, however old, then says nothing about
whose key is gone. The file (setting ``PERSON_KEYS_FILE``) is a small SQLite database: one row a person, 32 random bytes.
A destroyed key leaves its random name behind, so that a restored backup cannot bring the person back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import OperationalError, connection

KEY_BYTES = 32
NONCE_BYTES = 12  # AES-GCM's own; a person's key encrypts a few dozen values, so random nonces never meet
ID_BYTES = 16
PRIVATE = 0o600
BUSY_S = 20.0  # how long a process waits for another one that writes here
PREFIX = "s1:"
PEOPLE = "households_user"
LOOKUP = "lookup"  # the secret under which names are found again

SCHEMA = """
CREATE TABLE IF NOT EXISTS person_key (id TEXT PRIMARY KEY, secret BLOB);
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


class KeyDestroyed(Exception):
    """Nothing can be sealed for a person who was erased."""


class KeyMissing(Exception):
    """The file knows nothing of a person: it is not the one that belongs to this database."""


class KeyStore:
    """The keys in one file. Thread-safe; nothing is remembered outside the file, so a destroyed key is gone at once."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
        path.chmod(PRIVATE)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        # Overwrites what is deleted; the journal is a file that goes with each transaction.
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def _one(self, statement: str, *values: Any) -> Any:
        with self._lock:
            row = self._db.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def key(self, id: str) -> bytes | None:
        """Return a person's key; None when it was destroyed. Raise ``KeyMissing`` when there never was one here.

        A key is made once, with its person: made again for somebody it would lock away what the lost one sealed.
        """
        with self._lock:
            row = self._db.execute("SELECT secret FROM person_key WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise KeyMissing(
                f"{settings.PERSON_KEYS_FILE} has no key {id}: restore the file that belongs to this database"
            )
        found: bytes | None = row[0]
        return found

    def key_to_seal(self, id: str) -> bytes:
        """Return a person's key. Raise ``KeyDestroyed``, ``KeyMissing``."""
        found = self.key(id)
        if found is None:
            raise KeyDestroyed(id)
        return found

    def make(self, id: str) -> None:
        """Make the key of a person who is new; harmless when repeated."""
        with self._lock:
            self._db.execute(
                "INSERT INTO person_key (id, secret) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (id, secrets.token_bytes(KEY_BYTES)),
            )

    def destroy(self, id: str) -> None:
        """Destroy a person's key for good; harmless when repeated."""
        with self._lock:
            self._db.execute(
                "INSERT INTO person_key (id, secret) VALUES (?, NULL) ON CONFLICT (id) DO UPDATE SET secret = NULL",
                (id,),
            )

    def destroyed(self, id: str) -> bool:
        """Return whether a person with this key was erased."""
        return self._one("SELECT secret IS NULL FROM person_key WHERE id = ?", id) == 1

    def secret(self, name: str) -> bytes:
        """Return a secret of the installation, made when it is needed first."""
        found = self._one("SELECT value FROM secret WHERE name = ?", name)
        if found is None:
            with self._lock:
                self._db.execute(
                    "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (name, secrets.token_bytes(KEY_BYTES)),
                )
            found = self._one("SELECT value FROM secret WHERE name = ?", name)
        assert isinstance(found, bytes)
        return found


_stores: dict[Path, KeyStore] = {}
_lookup_secrets: dict[Path, bytes] = {}
_opening = threading.Lock()


def store() -> KeyStore:
    """Return the key store of this installation. Raise ``KeyMissing`` when its file is gone and people are there."""
    path = Path(settings.PERSON_KEYS_FILE)
    found = _stores.get(path)
    if found is None:
        with _opening:
            found = _stores.get(path)
            if found is None:
                if not path.exists() and _people_are_sealed():
                    raise KeyMissing(f"{path} is gone: restore it, what the database knows of people cannot be read")
                found = _stores[path] = KeyStore(path)
    return found


def _people_are_sealed() -> bool:
    """Return whether the database has people whose keys a lost file would hold."""
    try:
        connection.ensure_connection()
    except OperationalError:
        return False  # its role is still to be made: the tables' owner migrates
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        if PEOPLE not in tables:
            return False
        columns = {column.name for column in connection.introspection.get_table_description(cursor, PEOPLE)}
        if "person_key" not in columns:
            return False  # of a version that knew no keys
        cursor.execute(f"SELECT 1 FROM {PEOPLE} WHERE person_key <> '' LIMIT 1")  # noqa: S608
        return cursor.fetchone() is not None


def new_id() -> str:
    """Return a random name for a person's key."""
    return secrets.token_hex(ID_BYTES)


def lookup(kind: str, text: str) -> str:
    """Return the keyed digest (64 hex digits) under which a name or meter number is found again.

    Its secret lies with the persons' keys: who has only the database cannot try names against it.
    """
    path = Path(settings.PERSON_KEYS_FILE)
    secret = _lookup_secrets.get(path)
    if secret is None:
        secret = _lookup_secrets[path] = store().secret(LOOKUP)
    return hmac.new(secret, f"{kind}\n{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def cache_key(key: str, key_prefix: str, version: int) -> str:
    """Return under which the shared cache keeps something: keys have people's names and addresses in them."""
    return lookup("cache", f"{key_prefix}:{version}:{key}")


def seal(id: str, text: str, place: str) -> str:
    """Return ``text`` encrypted with a person's key, bound to its column ``place``. Raise ``KeyDestroyed``."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    data = AESGCM(store().key_to_seal(id)).encrypt(nonce, text.encode("utf-8", "surrogatepass"), place.encode())
    return f"{PREFIX}{id}:{(nonce + data).hex()}"


def unseal(sealed: str, place: str) -> str:
    """Return what ``seal`` was given, "" when the person was erased. Raise ``ValueError`` on anything else."""
    prefix, id, hexed = [*sealed.split(":", 2), "", ""][:3]
    if prefix + ":" != PREFIX:
        raise ValueError(f"{place}: expected a sealed value")
    key = store().key(id)
    if key is None:
        return ""
    data = bytes.fromhex(hexed)
    try:
        plain = AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], place.encode())
    except InvalidTag as error:
        raise ValueError(f"{place}: this value is not what was sealed") from error
    return plain.decode("utf-8", "surrogatepass")
