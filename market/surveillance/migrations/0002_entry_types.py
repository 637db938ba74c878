"""An index from an entry's type to its sequence, for all types but the two that have tables of their own.

Orders and trades are nearly all of a ledger: an index with them would cost every one of them an insertion. ``entrysearch``
asks in exactly these words; otherwise no database would take the index.
"""

from typing import Any

from django.db import migrations

SQLITE = """
CREATE INDEX ledger_entry_type ON ledger_entry (
  substr(substr(leaf, instr(leaf, X'2274797065223A22') + 8, 24), 1,
         instr(substr(leaf, instr(leaf, X'2274797065223A22') + 8, 24), X'22') - 1)
) WHERE instr(leaf, X'2274797065223A226F7264657222') = 0 AND instr(leaf, X'2274797065223A22747261646522') = 0
"""
POSTGRESQL = """
CREATE INDEX ledger_entry_type ON ledger_entry (
  split_part(encode(substring(leaf from position('"type":"'::bytea in leaf) + 8 for 24), 'escape'), '"', 1), seq
) WHERE position('"type":"order"'::bytea in leaf) = 0 AND position('"type":"trade"'::bytea in leaf) = 0
"""


def make(apps: Any, schema_editor: Any) -> None:
    """Make the index; a ledger of a million entries takes seconds."""
    schema_editor.execute(POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the index."""
    schema_editor.execute("DROP INDEX ledger_entry_type")


class Migration(migrations.Migration):
    dependencies = [
        ("surveillance", "0001_initial"),
        ("ledger", "0003_evidence"),
    ]

    operations = [migrations.RunPython(make, drop)]
