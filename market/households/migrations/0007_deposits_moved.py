from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("households", "0006_one_login"), ("payments", "0002_deposits")]

    operations = [migrations.DeleteModel(name="Deposit")]
