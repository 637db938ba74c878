import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import market.households.keystore
import market.households.sealed


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("grid", "0003_notes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Words",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("commitment", models.CharField(max_length=64, unique=True)),
                ("once", models.CharField(max_length=64, null=True, unique=True)),
                ("words_key", models.CharField(default=market.households.keystore.new_id, max_length=32)),
                ("kept", market.households.sealed.SealedField(blank=True, default="")),
                ("erased_at_ms", models.BigIntegerField(null=True)),
                (
                    "erased_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
    ]
