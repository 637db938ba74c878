"""Seal what is known about people with a key for each of them.

Backups that were made before stay readable until they are thrown away. On SQLite the plain text is swept out of the
file; on PostgreSQL ``VACUUM FULL`` does that (docs/operations).
"""

import hashlib

import orjson
from django.db import migrations
from django.utils.crypto import salted_hmac

from market.households import keystore
from market.households.sealed import login_of

USER_COLUMNS = ("username", "first_name", "last_name", "email")


def _sealed(key: str, text: str, place: str) -> str:
    return keystore.seal(key, text, f"households.{place}") if text else ""


def _seal_columns(cursor, table: str, model: str, columns: tuple[str, ...], owners: dict[int, str]) -> None:
    owner = "id" if model == "user" else "user_id"
    cursor.execute(f"SELECT id, {owner}, {', '.join(columns)} FROM {table}")  # noqa: S608
    for id, person, *texts in cursor.fetchall():
        values = [
            _sealed(owners[person], text, f"{model}.{column}") for column, text in zip(columns, texts, strict=True)
        ]
        marks = ", ".join(f"{column} = %s" for column in columns)
        cursor.execute(f"UPDATE {table} SET {marks} WHERE id = %s", [*values, id])  # noqa: S608


def seal(apps, schema_editor) -> None:
    """Seal people, then what belongs to them."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT id, username FROM households_user WHERE person_key = ''")
        names = dict(cursor.fetchall())
        logins: dict[str, str] = {}
        for name in names.values():
            other = logins.setdefault(login_of(name), name)
            if other != name:
                raise ValueError(f"expected names that differ in more than case, was {other!r} and {name!r}")
        owners = {id: keystore.new_id() for id in names}
        for id, key in owners.items():
            keystore.store().make(key)
            cursor.execute(
                "UPDATE households_user SET person_key = %s, login = %s WHERE id = %s", [key, login_of(names[id]), id]
            )
        cursor.execute("SELECT user_id, address, meter_number, accepted FROM households_accountrequest")
        homes = {user: (address, meter, accepted) for user, address, meter, accepted in cursor.fetchall()}
        _seal_columns(cursor, "households_user", "user", USER_COLUMNS, owners)
        _seal_columns(cursor, "households_accountrequest", "accountrequest", ("address", "meter_number"), owners)
        _seal_columns(cursor, "households_apikey", "apikey", ("name",), owners)
        _seal_accounts(cursor, names, owners, homes)
        for _address, meter, accepted in homes.values():
            if accepted and meter:
                _keep_connection(cursor, meter)


def _seal_accounts(cursor, names, owners, homes) -> None:
    cursor.execute(
        "SELECT a.id, a.user_id, a.area, a.salt, h.code FROM households_account a "
        "LEFT JOIN households_home h ON h.id = a.home_id WHERE a.user_id IS NOT NULL"
    )
    for id, user, area, salt, code in cursor.fetchall():
        address, meter, _accepted = homes.get(user, ("", "", None))
        # An account that was claimed with a home names the home alone.
        record = {"area": area, "home": code} if code else {
            "area": area, "user": names[user], "address": address, "meter_number": meter,
        }  # fmt: skip
        text = orjson.dumps({"record": record, "salt": bytes(salt).hex()}, option=orjson.OPT_SORT_KEYS).decode()
        cursor.execute(
            "UPDATE households_account SET identity = %s, salt = %s WHERE id = %s",
            [_sealed(owners[user], text, "account.identity"), b"", id],
        )


def _keep_connection(cursor, meter: str) -> None:
    """The ledger keeps calling a connection what it has called it so far."""
    name = salted_hmac("households.connection", meter, algorithm="sha256").hexdigest()
    lookup = keystore.lookup("meter", meter)
    assert len(name) == hashlib.sha256().digest_size * 2
    cursor.execute("SELECT 1 FROM households_connection WHERE lookup = %s", [lookup])
    if cursor.fetchone() is None:
        cursor.execute("INSERT INTO households_connection (lookup, name) VALUES (%s, %s)", [lookup, name])


def sweep(apps, schema_editor) -> None:
    """Take the plain text out of a SQLite file and its log."""
    connection = schema_editor.connection
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()


class Migration(migrations.Migration):
    atomic = False  # sealing is one transaction of its own, sweeping needs none around it
    dependencies = [("households", "0004_sealed")]

    operations = [
        migrations.RunPython(seal, atomic=True),
        migrations.RunPython(sweep, atomic=False),
    ]
