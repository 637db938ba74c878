"""All pages; each module lists its own."""

from market.pages import (
    account,
    auth,
    connection,
    halts,
    home,
    operator,
    privacy,
    recall,
    receipts,
    regulator,
    sharing,
    staff,
    statement,
    trade,
)

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *privacy.urlpatterns,
    *sharing.urlpatterns,
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
