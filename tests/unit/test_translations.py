"""Every word of the product is translated, and placeholders survive."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.utils.translation.template import templatize

from market.pages.messages import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.mo"
MARKS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy", "pgettext"}
IN_TEMPLATE = re.compile(r"""\b(?:gettext|ngettext|_)\(\s*u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
IN_SCRIPT = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|%%|</?\w+>")


def python_words() -> set[str]:
    """Return what Python modules mark for translation."""
    words = set()
    for top in ("market", "ledger"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in MARKS
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                    and isinstance(node.args[0].value, str)
                ):
                    words.add(node.args[0].value)
    return words


def template_words() -> set[str]:
    """Return what templates mark for translation."""
    words = set()
    for path in (ROOT / "templates").rglob("*.html"):
        for literal in IN_TEMPLATE.findall(templatize(path.read_text(), origin=str(path))):
            words.add(ast.literal_eval(literal))
    return words


@pytest.fixture(scope="module")
def chinese() -> dict[str, str]:
    """Return the compiled catalogue."""
    with CATALOGUE.open("rb") as file:
        translations = gettext.GNUTranslations(file)
    return {key if isinstance(key, str) else key[0]: text for key, text in translations._catalog.items()}  # type: ignore[attr-defined]


def test_every_word_is_in_the_compiled_catalogue(chinese: dict[str, str]) -> None:
    words = python_words() | template_words()
    assert len(words) > 200, "the search for words is broken"
    assert sorted(word for word in words if not chinese.get(word)) == []


def test_placeholders_and_markup_survive(chinese: dict[str, str]) -> None:
    broken = {
        word: text
        for word, text in chinese.items()
        if word and sorted(PLACEHOLDER.findall(word)) != sorted(PLACEHOLDER.findall(text))
    }
    assert broken == {}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (r"(?<!银行)对账[单行]", "账单 is a household's statement, 银行对账单 a bank's"),
        ("自动驾驶", "自动交易 is the autopilot"),
        ("电网费", "过网费 is the grid fee"),
    ],
)
def test_one_thing_has_one_word(chinese: dict[str, str], wrong: str, right: str) -> None:
    assert [text for text in chinese.values() if re.search(wrong, text)] == [], right


def test_scripts_say_only_listed_words() -> None:
    said = {word for path in (ROOT / "frontend" / "src").rglob("*.ts") for word in IN_SCRIPT.findall(path.read_text())}
    assert len(said) > 50, "the search for words is broken"
    assert sorted(said - set(SCRIPTS)) == []
