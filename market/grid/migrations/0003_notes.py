from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("grid", "0002_acknowledgement")]

    operations = [
        migrations.AddField(
            model_name=name,
            name="note",
            field=models.CharField(blank=True, default="", max_length=200),
            preserve_default=False,
        )
        for name in ("acknowledgement", "decision")
    ]
