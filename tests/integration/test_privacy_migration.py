"""An installation from before: its people are sealed, sign in as before, and their plain text is gone from the file."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[2]
NAME, STREET, METER, MAIL = "Quirin.Altbau", "Plainweg 77", "1EMH0001112223", "quirin@altbau.example"
SALT = bytes(range(32))
CHECK = """
from django.contrib.auth import authenticate
from market.households.models import *
from market.households import queries
u = User.objects.get(username="QUIRIN.altbau")
r = AccountRequest.objects.get(user=u)
assert (u.username, u.email, r.address, r.meter_number) == ("Quirin.Altbau", "quirin@altbau.example", "Plainweg 77",
    "1EMH0001112223"), (u.username, u.email, r.address, r.meter_number)
assert authenticate(username="Quirin.Altbau", password="a long old password") == u
assert ApiKey.objects.get(user=u).name == "Altbau-Heizung"
assert queries.commitment_holds(4, "COMMITMENT")
assert Account.objects.get(index=4).salt == b""
assert User.objects.get(username="olga").person_key != u.person_key
from django.utils.crypto import salted_hmac
from market.households.operations import _meter_connection
assert _meter_connection("1EMH0001112223") == salted_hmac("households.connection", "1EMH0001112223",
    algorithm="sha256").hexdigest(), "the ledger calls the connection what it called it before"
print("sealed")
"""


def manage(folder: Path, *arguments: str) -> str:
    environment = {"SUNLEDGER_DATA": str(folder), "PATH": "/usr/bin:/bin", "SUNLEDGER_SECRET_KEY": "of the test"}
    run = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_people_of_an_older_version_are_sealed(tmp_path: Path) -> None:
    manage(tmp_path, "migrate", "households", "0003", "-v", "0")
    password = manage(
        tmp_path, "shell", "-v", "0", "-c",
        "from django.contrib.auth.hashers import make_password; print(make_password('a long old password'))",
    ).strip().splitlines()[-1]  # fmt: skip
    file = tmp_path / "sunledger.sqlite3"
    with sqlite3.connect(file) as db:
        for id, name, mail in ((1, NAME, MAIL), (2, "olga", "")):
            db.execute(
                "INSERT INTO households_user (id, password, is_superuser, username, first_name, last_name, email, is_staff,"
                " is_active, date_joined, role, language) VALUES (?, ?, 0, ?, '', '', ?, 0, 1, '2026-01-01', 'household',"
                " '')",
                (id, password, name, mail),
            )
        db.execute(
            "INSERT INTO households_accountrequest (user_id, area, address, meter_number, requested_at, accepted)"
            " VALUES (1, 'LV1', ?, ?, '2026-01-01', 1)",
            (STREET, METER),
        )
        db.execute(
            'INSERT INTO households_account ("index", account_id, user_id, area, salt, automatic, opened_at)'
            " VALUES (4, 'ab', 1, 'LV1', ?, 0, '2026-01-01')",
            (SALT,),
        )
        db.execute(
            "INSERT INTO households_apikey (user_id, name, prefix, digest, scopes, created_at)"
            " VALUES (1, 'Altbau-Heizung', 'sl_', 'd', 'read', '2026-01-01')"
        )
    record = {"area": "LV1", "user": NAME, "address": STREET, "meter_number": METER}
    commitment = hashlib.sha256(SALT + orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).hexdigest()
    texts = [text.encode() for text in (NAME, STREET, METER, MAIL, "Altbau-Heizung")]
    before = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert all(text in before for text in texts)

    manage(tmp_path, "migrate", "-v", "0")
    assert "sealed" in manage(tmp_path, "shell", "-v", "0", "-c", CHECK.replace("COMMITMENT", commitment))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert [text for text in texts if text in data] == [], path
