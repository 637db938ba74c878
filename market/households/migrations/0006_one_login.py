"""Every person has a name of its own and a key of its own from here on."""

from django.db import migrations, models

import market.households.keystore
import market.households.sealed


class Migration(migrations.Migration):
    dependencies = [("households", "0005_seal_people")]

    operations = [
        migrations.AlterField(
            "user",
            "login",
            market.households.sealed.LoginField(
                default="",
                editable=False,
                error_messages={"unique": "This name is taken."},
                max_length=64,
                unique=True,
            ),
        ),
        migrations.AlterField(
            "user",
            "person_key",
            models.CharField(default=market.households.keystore.new_id, editable=False, max_length=32),
        ),
    ]
