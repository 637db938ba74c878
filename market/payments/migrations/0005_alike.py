from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0004_files_are_kept"),
    ]

    operations = [
        migrations.AddField(
            model_name="bankitem",
            name="alike",
            field=models.BooleanField(default=False),
        ),
    ]
