"""The words a newcomer does not know, explained once: beside them (``{% explain "gate" %}``) and together on ``/help``.

Each explanation says what the word means for a reader's money first. The full rules are docs/market-rules.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe


class Term(NamedTuple):
    """A word and what it means. ``key`` is its anchor."""

    key: str
    word: Any
    meaning: Any


class Chapter(NamedTuple):
    """Words that belong together."""

    key: str
    title: Any
    terms: tuple[Term, ...]


CHAPTERS = (
    Chapter("prices", _("Prices"), (
        Term("all-in", _("all-in price"), _(
            "The whole price per kWh at your own meter, grid fee included. A buyer never pays more than the price on the "
            "order, a seller never gets less.")),
        Term("grid-fee", _("grid fee"), _(
            "What the network charges for carrying a kWh from the seller's street to the buyer's. Next door costs least. It is "
            "in every price you see.")),
        Term("top-up", _("top-up price"), _(
            "What the grid's supplier charges for energy that you used and did not buy from neighbours. Nobody has to pay a "
            "neighbour more than that.")),
        Term("spill", _("spill price"), _(
            "What the grid's supplier pays for energy that you left over and did not sell to neighbours. Nobody has to sell to "
            "a neighbour for less than that.")),
        Term("levy", _("taxes and levies"), _(
            "What the state charges on top of energy or contained in its price. The statement lists each of them.")),
    )),
    Chapter("trading", _("Trading"), (
        Term("interval", _("interval"), _(
            "A short span of time, usually a quarter of an hour. Energy is bought and sold for one such interval at a time, "
            "because the meter counts it that way.")),
        Term("gate", _("gate"), _(
            "The moment at which trading for an interval ends: right before its delivery begins. What is agreed then is firm; "
            "orders that wait are dropped, and their money is free again.")),
        Term("order", _("order"), _(
            "Your offer: to sell or to buy, for which interval, how much, and the worst price you accept. It waits until "
            "somebody takes it, you take it back, or the gate closes.")),
        Term("book", _("order book"), _(
            "All orders that wait for an interval, best price first, as they are worth where you live: the grid fee is counted "
            "in, and what the wires cannot carry is left out.")),
        Term("hold", _("set aside"), _(
            "Money that an open order keeps ready in your wallet. It is free again as soon as the order trades for less, ends "
            "or is taken back. What you sold leaves a part with the market as security: it comes back with the money after "
            "delivery.")),
        Term("position", _("position"), _(
            "What you bought less what you sold for an interval. You have promised to use, or to deliver, about that much.")),
        Term("iceberg", _("iceberg"), _(
            "A large order that shows only a part of itself at a time, so that it does not move the price.")),
        Term("sweep", _("sweep"), _(
            "One order over several intervals that takes the best prices of all of them up to a limit.")),
        Term("block", _("block and basket"), _(
            "Orders for several intervals that trade together or not at all, such as charging at noon and selling in the "
            "evening.")),
        Term("collar", _("price collar"), _(
            "A trade far from the last prices stops an interval's trading for a short while, so that a typing error costs "
            "nobody a fortune.")),
        Term("halt", _("halt"), _("Trading is stopped, in an interval, an area or everywhere. Nothing you own is lost.")),
        Term("autopilot", _("autopilot"), _(
            "Trades for you from a forecast of your home, within your limits. Switched off, it takes its own orders back at "
            "once.")),
    )),
    Chapter("after-delivery", _("After delivery"), (
        Term("imbalance", _("imbalance"), _(
            "What your meter counted, less your position. If you used more, the grid's supplier fills it up at the top-up "
            "price; if you left more over, it takes it at the spill price.")),
        Term("settlement", _("settlement"), _(
            "The moment an interval is paid: minutes after its end, by estimates where meters are silent. Then sellers get "
            "their money.")),
        Term("provisional", _("provisional and final"), _(
            "A settled interval is provisional while a late or corrected meter reading may still change it, by a new line and "
            "never by an edit. Some weeks later it is final.")),
        Term("estimated", _("estimated"), _(
            "Your meter was silent, so your own earlier days stood in for it. When it answers, the difference is corrected.")),
        Term("not-delivered", _("not delivered"), _(
            "Energy you sold and your meter did not give. You pay the top-up price for it, because somebody had to supply "
            "it.")),
        Term("agreement", _("private agreement"), _(
            "You give a neighbour what you have left over, at a price you two agreed on, outside the market.")),
        Term("arrears", _("arrears"), _(
            "What a correction took beyond your wallet. Until it is paid you can sell, but not buy or take money out.")),
    )),
    Chapter("proof", _("Proof"), (
        Term("ledger", _("ledger"), _(
            "The market's diary: every order, trade and payment in the order they happened. Entries are only ever added, never "
            "changed. Names are not in it.")),
        Term("sealed", _("sealed block"), _(
            "The entries of about a second, signed together. From then on the market cannot change them without being "
            "caught.")),
        Term("witnessed", _("witnessed"), _(
            "Independent parties have signed the ledger's state too, after checking that nothing before it was changed.")),
        Term("receipt", _("receipt"), _(
            "A small file that proves that an entry is in the signed ledger. You can check it here or with any other program "
            "that knows the format.")),
    )),
    Chapter("grid", _("The grid"), (
        Term("area", _("area"), _(
            "A part of the network below one transformer: usually a street or two. Areas hang below substations like leaves on "
            "a tree.")),
        Term("residual", _("capacity left"), _(
            "What a wire between two areas can still carry in an interval. Energy that flows the other way makes room.")),
        Term("allocation", _("allocation"), _("What trades have promised to send over a wire in an interval.")),
        Term("balance", _("energy balance"), _(
            "What flowed into an area by its substation's meter, compared with what its homes' meters counted. What does not "
            "add up is loss, a fault or a missing meter.")),
    )),
)  # fmt: skip
TERMS = {term.key: term for chapter in CHAPTERS for term in chapter.terms}


@require_safe
def help_page(request: HttpRequest) -> HttpResponse:
    """Show all words with their meanings, for anybody."""
    return render(request, "public/help.html", {"chapters": CHAPTERS})


urlpatterns = [path("help", help_page, name="help")]
