"""Every route of the service, in the order the documentation shows them."""

from __future__ import annotations

from nexus.api import accept, data, latest, pages, tokens, v1
from nexus.api.routes import Route

ROWS: tuple[Route, ...] = (accept.CREATE, *v1.ROWS, *latest.ROWS, *tokens.ROWS, *data.ROWS, *pages.ROWS)
