"""The API server's clock against ours, from the Date header of one answer (RFC 9110 §6.6.1)."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient, _translated


async def measure_skew(client: KubeClient) -> tuple[float, float]:
    """(seconds that the server is ahead of us, how far off that may be).

    The header counts whole seconds, and the answer was made at some time during the call.
    Raises ApiError.
    """
    before = time.time()
    with _translated("GET /version"):
        response = await client._http.get("/version")
    after = time.time()
    try:
        stamped = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (TypeError, ValueError) as error:
        raise ApiError(0, "NoDate", "the API server's answers carry no Date header") from error
    return stamped + 0.5 - (before + after) / 2, 0.5 + (after - before) / 2
