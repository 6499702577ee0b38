"""An OpenAPI 3.1 document of the routes, made of the same tables that the sandbox validates by."""

from typing import Any

from desk360_async.sandbox.endpoints import ROUTES, Route
from desk360_async.sandbox.rules import schema_of


def openapi_document(server: str) -> dict[str, Any]:
    """Describe the API as served at a base URL."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Desk360 WhatsApp API (sandbox)", "version": "1"},
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _operation(route: Route) -> dict[str, Any]:
    summary = (route.endpoint.__doc__ or "").strip().rstrip(".")
    operation: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": summary,
        "parameters": [_parameter(name) for name in route.pattern.groupindex],
        "responses": {
            "200": {"description": "Done"},
            **{status: {"description": text} for status, text in _ERRORS.items()},
        },
    }
    if route.rules:
        schema = body_schema(route.rules)
        content = {"multipart/form-data": {"schema": schema}}
        if route.endpoint.__name__ != "send_media":
            content["application/json"] = {"schema": schema}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


_ERRORS = {
    "400": "failed_validation",
    "401": "authentication_exception",
    "404": "model_not_found_exception",
    "429": "too_many_requests_exception",
}


def _parameter(name: str) -> dict[str, Any]:
    kind = "integer" if name == "integration_id" else "string"
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def body_schema(rules: dict[str, str]) -> dict[str, Any]:
    """Turn a table of rules into a JSON Schema: `a.*.b` nests, `required` and `max` carry over."""
    root: dict[str, Any] = {"type": "object"}
    for name, text in rules.items():
        here = root
        *parents, last = name.split(".")
        for part in parents:
            here = _child(here, part)
        _child(here, last).update(schema_of(text))
        if "required" in text.split("|") and last != "*":
            here.setdefault("required", []).append(last)
    return root


def _child(schema: dict[str, Any], part: str) -> dict[str, Any]:
    if part == "*":
        items: dict[str, Any] = schema.setdefault("items", {})
        return items
    schema.setdefault("type", "object")
    child: dict[str, Any] = schema.setdefault("properties", {}).setdefault(part, {})
    return child
