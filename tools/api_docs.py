"""The generated pages of the API: called by ``tools/docs.py``."""

from __future__ import annotations

from nexus.api import openapi


def pages() -> dict[str, str]:
    """Path in the checkout → text of the page."""
    return {
        "docs/reference/openapi.json": openapi.text().decode() + "\n",
        "docs/reference/openapi-3.0.json": openapi.text_3_0().decode() + "\n",
    }
