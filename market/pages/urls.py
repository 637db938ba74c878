"""All pages; each module lists its own."""

from market.pages import account, auth, connection, halts, home, operator, recall, regulator, staff, statement, trade

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *home.urlpatterns,
    *statement.urlpatterns,
    *trade.urlpatterns,
    *staff.urlpatterns,
    *halts.urlpatterns,
    *recall.urlpatterns,
    *connection.urlpatterns,
    *operator.urlpatterns,
    *regulator.urlpatterns,
]
