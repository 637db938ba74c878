"""The OpenAPI document and a page that shows it: plain HTML from our own server, no script, nothing from elsewhere."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from market.api import sentences
from market.households.keys import SCOPES

_METHODS = ("get", "post", "put", "patch", "delete")


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """Return the OpenAPI document; it only changes with the code."""
    schema: dict[str, Any] = SchemaGenerator(api_version="v1").get_schema(request=None, public=True)
    return schema


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document as JSON."""
    return HttpResponse(orjson.dumps(document()), content_type="application/json")


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """Show every call with its parameters, body and answers."""
    found = document()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in found["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    shapes = [(name, _fields(shape), shape) for name, shape in found["components"]["schemas"].items()]
    context = {"groups": groups, "shapes": shapes, "codes": sentences.known_codes(), "scopes": SCOPES}
    return render(request, "api/docs.html", context)


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    answers = [
        (status, _name(body.get("content", {})))
        for status, body in operation["responses"].items()
        if status != "default"
    ]
    return {
        "id": operation["operationId"],
        "path": path,
        "method": method.upper(),
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "parameters": operation.get("parameters", []),
        "body": _name(operation.get("requestBody", {}).get("content", {})),
        "answers": answers,
    }


def _name(content: dict[str, Any]) -> str:
    for media in content.values():
        schema = media.get("schema", {})
        options = [schema, *schema.get("oneOf", [])]
        for option in options:
            reference = option.get("$ref") or option.get("items", {}).get("$ref")
            if reference:
                return str(reference).rsplit("/", 1)[1]
    return ""


def _fields(shape: dict[str, Any]) -> list[dict[str, Any]]:
    required = shape.get("required", [])
    return [
        {
            "name": name,
            "type": _type(field),
            "required": name in required,
            "about": field.get("description", ""),
        }
        for name, field in shape.get("properties", {}).items()
    ]


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rsplit("/", 1)[1]
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if "items" in field:
        return _type(field["items"]) + "[]"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in field:
            return " | ".join(_type(option) for option in field[key])
    return str(field.get("type", "any")) + (" | null" if field.get("nullable") else "")
