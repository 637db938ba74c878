"""All pages; each module lists its own."""

from market.pages import (
    account,
    auth,
    connection,
    disputes,
    halts,
    home,
    money,
    operator,
    privacy,
    recall,
    receipts,
    regulator,
    staff,
    statement,
    trade,
    treasury,
)

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *privacy.urlpatterns,
    *home.urlpatterns,
    *money.urlpatterns,
    *disputes.urlpatterns,
    *statement.urlpatterns,
    *trade.urlpatterns,
    *receipts.urlpatterns,
    *staff.urlpatterns,
    *treasury.urlpatterns,
    *halts.urlpatterns,
    *recall.urlpatterns,
    *connection.urlpatterns,
    *operator.urlpatterns,
    *regulator.urlpatterns,
]
