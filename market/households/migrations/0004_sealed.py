"""Columns for what is sealed, for connections, renewals and accesses. Rows are sealed by the next migration."""

import django.contrib.auth.validators
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import market.households.sealed


class Migration(migrations.Migration):
    dependencies = [("households", "0003_people"), ("exchange", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Connection",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("lookup", models.CharField(max_length=64, unique=True)),
                ("name", models.CharField(max_length=64, unique=True)),
            ],
        ),
        migrations.AddField("account", "connection", models.CharField(blank=True, default="", max_length=64)),
        migrations.AddField("account", "identity", market.households.sealed.SealedField(blank=True, default="")),
        migrations.AddField("user", "erasure_requested_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField(
            "user",
            "login",
            market.households.sealed.LoginField(
                default="", editable=False, error_messages={"unique": "This name is taken."}, max_length=64
            ),
        ),
        migrations.AddField("user", "person_key", models.CharField(default="", editable=False, max_length=32)),
        migrations.AlterField("accountrequest", "address", market.households.sealed.SealedField(max_length=255)),
        migrations.AlterField("accountrequest", "meter_number", market.households.sealed.SealedField(max_length=64)),
        migrations.AlterField("apikey", "name", market.households.sealed.SealedField(max_length=80)),
        migrations.AlterField(
            "user",
            "email",
            market.households.sealed.SealedField(
                blank=True, default="", max_length=254, validators=[django.core.validators.EmailValidator()]
            ),
        ),
        migrations.AlterField(
            "user", "first_name", market.households.sealed.SealedField(blank=True, default="", max_length=150)
        ),
        migrations.AlterField(
            "user", "last_name", market.households.sealed.SealedField(blank=True, default="", max_length=150)
        ),
        migrations.AlterField(
            "user",
            "username",
            market.households.sealed.NameField(
                max_length=150,
                unique=True,
                validators=[
                    django.contrib.auth.validators.UnicodeUsernameValidator(),
                    django.core.validators.MaxLengthValidator(150),
                ],
            ),
        ),
        migrations.CreateModel(
            name="Access",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField()),
                ("at", models.DateTimeField()),
                ("reader", models.BigIntegerField()),
                ("role", models.CharField(max_length=16)),
                ("kind", models.CharField(max_length=16)),
                ("account", models.BigIntegerField(default=-1)),
                ("person", models.BigIntegerField(default=0)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["reader", "at"], name="access_reader"),
                    models.Index(fields=["person", "at"], name="access_person"),
                    models.Index(fields=["at"], name="access_at"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "person", "hour", "reader", "kind"), name="access_once_an_hour"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Renewal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount_e7", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("out_seq", models.BigIntegerField(blank=True, null=True)),
                ("in_seq", models.BigIntegerField(blank=True, null=True)),
                (
                    "new",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="households.account"
                    ),
                ),
                (
                    "old",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="households.account"
                    ),
                ),
            ],
        ),
    ]
