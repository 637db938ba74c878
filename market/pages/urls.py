"""All pages; each module lists its own."""

from market.pages import home, trade

urlpatterns = [
    *home.urlpatterns,
    *trade.urlpatterns,
]
