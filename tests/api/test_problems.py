"""Every code has a sentence; errors of Django and the framework become problem documents as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from django.utils import translation
from rest_framework import exceptions

from market.api import problems
from market.api.problems import Problem
from market.api.sentences import SENTENCES
from market.engine.events import Refused

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    ("market/engine", r'refuse\(\s*"([a-z_]+)"'),
    ("market/metering", r'(?:InvalidReading|ReadingsRefused)\(\s*"([a-z_]+)"'),
    ("market/api", r'Problem\(\s*\d+,\s*"([a-z_]+)"'),
)


def codes() -> set[str]:
    """Return every code that the source can put into a problem document."""
    found = set()
    for folder, pattern in SOURCES:
        texts = [path.read_text() for path in (ROOT / folder).rglob("*.py")]
        mine = {code for text in texts for code in re.findall(pattern, text)}
        assert mine, folder
        found |= mine
    return found - {"not_your_order"}  # shown as unknown_order


def test_every_code_has_a_sentence() -> None:
    assert codes() - set(SENTENCES) == set()


def test_a_sentence_without_its_details_says_less_but_says_it() -> None:
    with translation.override("en"):
        full = problems.from_refused(Refused("price_off_tick", "price", (("tick_e4", 100),)))
        assert "0.0100" in full.detail()
        bare = problems.from_refused(Refused("price_off_tick", "price"))
        assert "%" not in bare.detail()
        assert bare.detail()
        money = problems.from_refused(
            Refused("insufficient_funds", "energy_wh", (("free_e7", 5_000_000), ("needed_e7", 20_000_000)))
        )
        assert ("0.5000000" in money.detail(), "2.0000000" in money.detail()) == (True, True)


@pytest.mark.parametrize("code", sorted(SENTENCES))
def test_every_sentence_can_be_said(code: str) -> None:
    assert Problem(422, code).detail()
    with translation.override("zh-hans"):
        assert Problem(422, code).detail()


@pytest.mark.parametrize(
    ("error", "status", "code", "field"),
    [
        (Http404(), 404, "not_found", ""),
        (RequestDataTooBig(), 413, "body_too_large", ""),
        (SuspiciousOperation(), 400, "bad_request", ""),
        (exceptions.ParseError(), 400, "malformed_json", ""),
        (exceptions.UnsupportedMediaType("x"), 415, "unsupported_media_type", ""),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed", ""),
        (exceptions.Throttled(5), 429, "overloaded", ""),
        (exceptions.PermissionDenied(), 403, "forbidden", ""),
        (exceptions.PermissionDenied("CSRF Failed: no cookie"), 403, "csrf_failed", ""),
        (exceptions.ValidationError({"a": [{}, {"b": ["bad"]}]}), 422, "invalid_value", "a[1].b"),
        (exceptions.ValidationError(["bad"]), 422, "invalid_value", ""),
        (TimeoutError(), 503, "outcome_unknown", ""),
        (KeyError("x"), 503, "unavailable", ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_of_the_framework(error: Exception, status: int, code: str, field: str) -> None:
    answer = problems.exception_handler(error, {})
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert f'"code":"{code}"'.encode() in answer.content
    assert f'"field":"{field}"'.encode() in answer.content


def test_values_of_clients_are_shortened_before_they_are_repeated() -> None:
    assert problems.shorten("a\x00b\n") == "a?b?"
    assert len(problems.shorten("x" * 10_000)) < 100
