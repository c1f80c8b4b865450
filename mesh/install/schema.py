"""Pieces of OpenAPI that our CustomResourceDefinitions are put together from; pure."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
INT: Final[Schema] = {"type": "integer", "format": "int32"}
FLAG: Final[Schema] = {"type": "boolean"}
AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def object_of(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def condition() -> Schema:
    """One entry of a status's conditions, as Kubernetes has them everywhere."""
    return object_of(
        {
            "type": TEXT,
            "status": TEXT,
            "reason": TEXT,
            "message": TEXT,
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        }
    )
