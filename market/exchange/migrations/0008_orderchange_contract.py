from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0007_order_contract"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="orderchange",
            index=models.Index(fields=["contract", "seq"], name="orderchange_contract"),
        ),
    ]
