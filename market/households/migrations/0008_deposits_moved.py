from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("households", "0007_one_change_at_a_time"), ("payments", "0002_deposits")]

    operations = [migrations.DeleteModel(name="Deposit")]
