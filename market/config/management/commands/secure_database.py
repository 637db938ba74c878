"""`manage.py secure_database`: on PostgreSQL, migrate as the owner and give the application's role no more than it needs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from market.config import database


class Command(BaseCommand):
    """Run before the first start and after each upgrade."""

    help = (
        "Apply the migrations as the user of MIGRATION_DATABASE_URL, and let the user of DATABASE_URL add to the ledger's "
        "tables and read them, but never change or delete anything there."
    )
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        role = database.secure()
        self.stdout.write(f"The database is up to date; {role} can add to the ledger and change nothing of it.")
