"""Chinese sentences stand next to each other without a space, whatever a template puts between them."""

from __future__ import annotations

import pytest
from django.template import engines
from django.utils.safestring import SafeString
from django.utils.translation import override

from market.pages.typesetting import closed_up

ONE, TWO = "卖出了 2 kWh。", "电网付了 €0.31。"


@pytest.mark.parametrize(
    ("rendered", "shown"),
    [
        (f"<p>{ONE} {TWO}</p>", f"<p>{ONE}{TWO}</p>"),
        (f"<p>{ONE}\n        {TWO}\n</p>", f"<p>{ONE}{TWO}\n</p>"),
        (f'<b>{ONE}</b> <small class="muted">{TWO}</small>', f'<b>{ONE}</b><small class="muted">{TWO}</small>'),
        (f'<p title="{ONE} {TWO}">约 <b>€1</b></p>', f'<p title="{ONE}{TWO}">约 <b>€1</b></p>'),
        ("卖出 2 kWh，约 <b>€1</b>", "卖出 2 kWh，约 <b>€1</b>"),
        ("可用： <b>€1</b>", "可用：<b>€1</b>"),
        (f"<p>{ONE}</p>\n<p>{TWO}</p>", f"<p>{ONE}</p>\n<p>{TWO}</p>"),
        (f"<textarea>\n{ONE} {TWO}</textarea> a 。 b", f"<textarea>\n{ONE} {TWO}</textarea> a 。b"),
        (f'<input value="{ONE} {TWO}">', f'<input value="{ONE} {TWO}">'),
        (f'<script>"{ONE} {TWO}"</script>', f'<script>"{ONE} {TWO}"</script>'),
        ("Sold 2 kWh. The grid paid.", "Sold 2 kWh. The grid paid."),
    ],
)
def test_white_space_after_a_chinese_mark_goes(rendered: str, shown: str) -> None:
    assert closed_up(rendered) == shown


def test_line_breaks_of_a_mail_stay() -> None:
    assert closed_up(f"{ONE} {TWO}\n{ONE}\n\n{TWO}", html=False) == f"{ONE}{TWO}\n{ONE}\n\n{TWO}"


def test_templates_are_set_as_their_language_is_written() -> None:
    source = "<p>{{ one }}{% if one %} {{ two }}{% endif %}</p>"
    template = engines["django"].from_string(source)
    with override("zh-hans"):
        rendered = template.render({"one": ONE, "two": "<b>"})
    assert rendered == f"<p>{ONE}&lt;b&gt;</p>"
    assert isinstance(rendered, SafeString)
    with override("en"):
        assert template.render({"one": ONE, "two": TWO}) == f"<p>{ONE} {TWO}</p>"


def test_pages_come_from_this_backend() -> None:
    template = engines["django"].get_template("404.html")
    assert type(template).__module__ == "market.pages.typesetting"
