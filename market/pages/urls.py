"""All pages; each module lists its own."""

from market.pages import account, auth, home, operator, regulator, staff, trade

urlpatterns = [
    *auth.urlpatterns,
    *account.urlpatterns,
    *home.urlpatterns,
    *trade.urlpatterns,
    *staff.urlpatterns,
    *operator.urlpatterns,
    *regulator.urlpatterns,
]
