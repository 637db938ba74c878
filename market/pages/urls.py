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
    settlement,
    staff,
    statement,
    summaries,
    trade,
)

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *privacy.urlpatterns,
    *home.urlpatterns,
    *statement.urlpatterns,
    *summaries.urlpatterns,
    *trade.urlpatterns,
    *receipts.urlpatterns,
    *staff.urlpatterns,
    *halts.urlpatterns,
    *recall.urlpatterns,
    *connection.urlpatterns,
    *operator.urlpatterns,
    *settlement.urlpatterns,
    *regulator.urlpatterns,
]
