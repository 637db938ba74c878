"""`/api/v1/schema/` and `/api/v1/docs/`."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema
from rest_framework.views import APIView

from market.api import lean, reference
from market.api.sentences import SENTENCES
from tests.api.conftest import City


@pytest.fixture
def document(city: City) -> dict[str, Any]:
    return city.request("GET", "/api/v1/schema/").json()


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate_schema(document)
    reference.document.cache_clear()
    GENERATOR_STATS.reset()
    assert reference.document() == document
    assert not GENERATOR_STATS._error_cache
    assert not GENERATOR_STATS._warn_cache


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"')))
    assert names
    assert names <= set(document["components"]["schemas"])


def test_the_order_endpoints_are_in_it(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert set(paths[lean.PATH]) == {"get", "post", "delete"}
    for name in ("batch", "sweep", "block", "basket", "{id}/hibernate", "{id}/reactivate"):
        assert set(paths[f"{lean.PATH}/{name}"]) == {"post"}
    assert set(paths[f"{lean.PATH}/{{id}}"]) == {"get", "patch", "delete"}
    assert paths[lean.PATH]["post"]["responses"]["201"]


def test_every_view_is_in_it(document: dict[str, Any]) -> None:
    def views(patterns: Any, prefix: str) -> Any:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                yield from views(pattern.url_patterns, path)
            elif issubclass(getattr(pattern.callback, "cls", object), APIView):
                yield "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", path)

    found = set(views(get_resolver().url_patterns, ""))
    assert len(found) > 20
    assert found <= set(document["paths"])


def test_errors_are_problem_documents(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]


def test_the_page_needs_no_script_and_nothing_from_elsewhere(city: City, document: dict[str, Any]) -> None:
    response = city.request("GET", "/api/v1/docs/")
    assert response.status_code == 200
    page = response.text
    assert "unsafe-inline" not in response.headers["content-security-policy"]
    assert "<script" not in page
    assert " style=" not in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    for path in document["paths"]:
        assert path in page
    for code in SENTENCES:
        assert f"<code>{code}</code>" in page
    for style in re.findall(r'<link rel="stylesheet" href="([^"]+)"', page):
        assert city.request("GET", style).status_code == 200
    for target in re.findall(r'href="#([\w-]+)"', page):
        assert f'id="{target}"' in page


def test_the_page_in_chinese(city: City) -> None:
    response = city.request("GET", "/api/v1/docs/", headers={"Accept-Language": "zh-CN"})
    assert response.status_code == 200
    assert 'lang="zh-hans"' in response.text
