"""The OpenAPI document: shapes become components, and the lean endpoints are described beside the framework's views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from market.api import complex_in, cursors, lean, orders_in, shapes

_REF = "#/components/schemas/"
_PROBLEM_TYPE = "application/problem+json"
_PROBLEM_TEXT = (
    "A problem document. 400: the request is not of this shape (malformed_json, unknown_field, missing_field, "
    "invalid_type for a value of another JSON type); 422: it is, but a value cannot be (invalid_price, "
    "energy_out_of_range, …); `field` names it."
)


_SURVEILLANCE = (shapes.SavedViewIn, shapes.SavedViewNameIn, shapes.ExportIn)


def _all_shapes() -> list[type]:
    found = [
        value
        for value in vars(shapes).values()
        if isinstance(value, type) and issubclass(value, shapes.Shape) and value is not shapes.Shape
    ]
    bodies = (complex_in.SweepIn, complex_in.BlockIn, complex_in.BasketIn, complex_in.LegIn)
    return [
        *found,
        orders_in.OrderIn,
        orders_in.AmendIn,
        shapes.SigningKeyIn,
        shapes.DeviceValueIn,
        *bodies,
        *_SURVEILLANCE,
    ]


def components() -> dict[str, Any]:
    """Return every shape as a component."""
    _schemas, found = msgspec.json.schema_components(_all_shapes(), ref_template=_REF + "{name}")
    return {name: _plain(schema) for name, schema in found.items()}


def _plain(schema: Any) -> Any:
    """Drop what OpenAPI 3.0 does not know from a JSON schema."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key not in {"examples", "const"}}
    if not plain.get("required", True):
        del plain["required"]
    if "examples" in schema:
        plain["example"] = schema["examples"][0]
    options = plain.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        del plain["anyOf"]
        if len(rest) == 1 and "$ref" not in rest[0]:
            plain.update(rest[0])
        else:
            plain["allOf" if len(rest) == 1 else "anyOf"] = rest
        plain["nullable"] = True
    return plain


def ref(shape: type) -> dict[str, str]:
    """Return a reference to a shape's component."""
    return {"$ref": _REF + shape.__name__}


def query(name: str, description: str, kind: type = str) -> OpenApiParameter:
    """Return a parameter of the query string."""
    return OpenApiParameter(name, kind, OpenApiParameter.QUERY, description=description)


PAGE = (
    query("limit", f"how many results, 1 to {cursors.MAX_LIMIT} (default {cursors.DEFAULT_LIMIT})", int),
    query("cursor", "the `next` of the page before"),
)
_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="1 to 64 visible ASCII characters: sent again with the same content, the first answer comes again",
)


def describe(
    summary: str,
    shape: type,
    *,
    tag: str,
    body: type | None = None,
    parameters: tuple[OpenApiParameter, ...] = (),
    keyed: bool = False,
    status: int = 200,
    others: Mapping[tuple[int, str], Any] | None = None,
) -> Any:
    """Return the decorator that describes a view's method; ``others`` replace the answer's one shape."""
    return extend_schema(
        summary=summary,
        tags=[tag],
        parameters=[*parameters, *([_KEY] if keyed else [])],
        request={"application/json": ref(body)} if body is not None else None,
        responses={
            **(
                others
                or {status: OpenApiResponse(ref(shape), description=(shape.__doc__ or "").strip().splitlines()[0])}
            ),
            "default": OpenApiResponse(ref(shapes.Problem), description=_PROBLEM_TEXT),
        },
    )


# --- the lean endpoints ----------------------------------------------------------------------------------------------
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}, "description": "the order's id"}
_CONTRACT = {"name": "contract", "in": "query", "schema": {"type": "string"}, "description": "only of this contract"}
_KEY_PLAIN = {
    "name": _KEY.name,
    "in": "header",
    "schema": {"type": "string", "maxLength": 64},
    "description": _KEY.description,
}
_SIGNATURE_PLAIN = {
    "name": "Order-Signature",
    "in": "header",
    "schema": {"type": "string", "minLength": 128, "maxLength": 128},
    "description": "of an account with a key (me/signing): Ed25519 signature in hex, see docs/ledger.md; needs an "
    "Idempotency-Key",
}
_PAGE_PLAIN = [
    {"name": p.name, "in": "query", "schema": {"type": "integer" if p.type is int else "string"},
     "description": p.description}
    for p in PAGE
]  # fmt: skip
_STATE = {"name": "state", "in": "query", "schema": {"type": "string", "enum": list(lean.STATES)}}


def _operation(
    name: str,
    summary: str,
    shape: type,
    *,
    parameters: list[dict[str, Any]],
    body: Mapping[str, Any] | None = None,
    status: str = "200",
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["orders"],
        "security": [{"key": []}, {"cookieAuth": []}],
        "parameters": parameters,
        "responses": {
            status: {
                "description": (shape.__doc__ or "").strip().splitlines()[0],
                "content": {"application/json": {"schema": ref(shape)}},
            },
            "default": {
                "description": _PROBLEM_TEXT,
                "content": {_PROBLEM_TYPE: {"schema": ref(shapes.Problem)}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": dict(body)}}}
    return operation


def _lean_paths() -> dict[str, Any]:
    order, change = ref(orders_in.OrderIn), ref(orders_in.AmendIn)
    orders = {"type": "array", "items": order, "minItems": 1, "maxItems": orders_in.MAX_BATCH}
    batch = {"oneOf": [orders, {"type": "object", "properties": {"orders": orders}, "required": ["orders"]}]}
    return {
        lean.PATH: {
            "get": _operation(
                "orders_list", "My orders", shapes.OrderPage, parameters=[_CONTRACT, _STATE, *_PAGE_PLAIN]
            ),
            "post": _operation(
                "orders_create",
                "Place an order",
                shapes.OrderAnswer,
                parameters=[_KEY_PLAIN, _SIGNATURE_PLAIN],
                body=order,
                status="201",
            ),
            "delete": _operation(
                "orders_cancel_all",
                "Take back all my open orders",
                shapes.CancelledAll,
                parameters=[_CONTRACT, _KEY_PLAIN],
            ),
        },
        f"{lean.PATH}/batch": {
            "post": _operation(
                "orders_batch", "Place up to 1,000 orders", shapes.BatchAnswer, parameters=[_KEY_PLAIN], body=batch
            ),
        },
        f"{lean.PATH}/sweep": {
            "post": _operation(
                "orders_sweep",
                "Buy or sell at once over several contracts",
                shapes.OrderAnswer,
                parameters=[_KEY_PLAIN, _SIGNATURE_PLAIN],
                body=ref(complex_in.SweepIn),
                status="201",
            ),
        },
        f"{lean.PATH}/block": {
            "post": _operation(
                "orders_block",
                "Place an all-or-none block over contiguous contracts",
                shapes.OrdersAnswer,
                parameters=[_KEY_PLAIN, _SIGNATURE_PLAIN],
                body=ref(complex_in.BlockIn),
                status="201",
            ),
        },
        f"{lean.PATH}/basket": {
            "post": _operation(
                "orders_basket",
                "Place linked fill-or-kill orders",
                shapes.OrdersAnswer,
                parameters=[_KEY_PLAIN, _SIGNATURE_PLAIN],
                body=ref(complex_in.BasketIn),
                status="201",
            ),
        },
        f"{lean.PATH}/{{id}}": {
            "get": _operation("orders_read", "One of my orders", shapes.OrderDetail, parameters=[_ID]),
            "patch": _operation(
                "orders_amend",
                "Change price or quantity",
                shapes.OrderAnswer,
                parameters=[_ID, _KEY_PLAIN],
                body=change,
            ),
            "delete": _operation(
                "orders_cancel", "Take an order back", shapes.OrderAnswer, parameters=[_ID, _KEY_PLAIN]
            ),
        },
        f"{lean.PATH}/{{id}}/hibernate": {
            "post": _operation(
                "orders_hibernate",
                "Take an order out of the book for a while",
                shapes.OrderAnswer,
                parameters=[_ID, _KEY_PLAIN],
            ),
        },
        f"{lean.PATH}/{{id}}/reactivate": {
            "post": _operation(
                "orders_reactivate", "Bring an order back", shapes.OrderAnswer, parameters=[_ID, _KEY_PLAIN]
            ),
        },
    }


def add_lean(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Complete the framework's document (a postprocessing hook of drf-spectacular)."""
    paths = {**result.get("paths", {}), **_lean_paths()}
    result["paths"] = dict(sorted(paths.items()))
    for path in result["paths"].values():
        for operation in path.values():
            default = operation.get("responses", {}).get("default")
            if default is not None:
                content = default.get("content", {})
                default["content"] = {_PROBLEM_TYPE: next(iter(content.values()), {"schema": ref(shapes.Problem)})}
    known = result.setdefault("components", {})
    known["schemas"] = dict(sorted({**known.get("schemas", {}), **components()}.items()))
    return result
