"""Cosignatures, quorums, alarms, and where the log's keys are named."""

from django.db import migrations, models


def note_founder(apps, schema_editor):
    """A log that is there already names its first key in its first entry."""
    alias = schema_editor.connection.alias  # the tables' owner migrates through a connection of its own
    if apps.get_model("ledger", "Entry").objects.using(alias).filter(seq=0).exists():
        apps.get_model("ledger", "KeyEntry").objects.using(alias).get_or_create(seq=0)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="KeyEntry",
            fields=[("seq", models.BigIntegerField(primary_key=True, serialize=False))],
        ),
        migrations.CreateModel(
            name="Alarm",
            fields=[
                ("seq", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at_ms", models.BigIntegerField()),
                ("kind", models.CharField(max_length=8)),
                ("detail", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="Cosignature",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("size", models.BigIntegerField()),
                ("witness", models.CharField(max_length=400)),
                ("at_s", models.BigIntegerField()),
                ("line", models.TextField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("size", "witness"), name="cosignature_once")],
            },
        ),
        migrations.CreateModel(
            name="Quorum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("size", models.BigIntegerField()),
                ("policy", models.CharField(max_length=64)),
                ("at_ms", models.BigIntegerField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("policy", "size"), name="quorum_once")],
            },
        ),
        migrations.RunPython(note_founder, migrations.RunPython.noop),
    ]
