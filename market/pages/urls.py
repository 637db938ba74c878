"""All pages; each module lists its own."""

from market.pages import (
    account,
    auth,
    connection,
    devices,
    halts,
    home,
    operator,
    privacy,
    recall,
    receipts,
    regulator,
    staff,
    statement,
    trade,
    uploads,
)

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *devices.urlpatterns,
    *uploads.urlpatterns,
    *privacy.urlpatterns,
    *home.urlpatterns,
    *statement.urlpatterns,
    *trade.urlpatterns,
    *receipts.urlpatterns,
    *staff.urlpatterns,
    *halts.urlpatterns,
    *recall.urlpatterns,
    *connection.urlpatterns,
    *operator.urlpatterns,
    *regulator.urlpatterns,
]
