"""All pages; each module lists its own."""

from market.pages import account, auth, home, operator, regulator, staff, statement, trade

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *home.urlpatterns,
    *statement.urlpatterns,
    *trade.urlpatterns,
    *staff.urlpatterns,
    *operator.urlpatterns,
    *regulator.urlpatterns,
]
