"""Signed URLs and run tokens: what a holder may do, until when, provable without a look-up.

The signature is HMAC-SHA256 over the length-prefixed fields (so that no two requests share a signing text): a purpose, the
method, the path, not-before and expiry in whole seconds. Keys never leave the service.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import quote

from nexus.kernel.clock import Clock, to_microseconds
from nexus.kernel.errors import BadSignature
from nexus.kernel.ids import is_id

RUN_TOKEN_PREFIX = "nxr_"  # noqa: S105 - the public prefix by which a token is recognised
SKEW = timedelta(seconds=5)  # clocks of two machines differ a little


class Signer:
    """Signs and verifies with one secret key."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        if len(key) < 32:
            raise ValueError("a signing key has at least 32 bytes")
        self._key = key
        self._clock = clock

    def sign(self, method: str, path: str, valid_for: timedelta) -> str:
        """The query string (``from``, ``to``, ``sig``) that lets its holder do *method* on *path* for that long.

        *path* is the path exactly as it goes over the wire, percent-encoded.
        """
        now = to_microseconds(self._clock.now()) // 1_000_000
        start, end = now - int(SKEW.total_seconds()), now + int(valid_for.total_seconds())
        return f"from={start}&to={end}&sig={self._mac('url', method, path, str(start), str(end))}"

    def verify(self, method: str, path: str, query: Mapping[str, str]) -> None:
        """Returns when *query* allows *method* on *path* now. Raises BadSignature.

        The signature is compared first, in constant time: a wrong one learns nothing of the times.
        """
        start, end, given = (query.get(name, "") for name in ("from", "to", "sig"))
        expected = self._mac("url", method, path, start, end)
        if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
            raise BadSignature("the signature of this URL is wrong", hint="ask the service for a new URL")
        now = to_microseconds(self._clock.now()) // 1_000_000
        if now < int(start):
            raise BadSignature("this URL is not valid yet", hint="compare the clocks of both machines")
        if now >= int(end):
            raise BadSignature("this URL has expired", hint="ask the service for a new URL")

    def run_token(self, run_id: str) -> str:
        """A bearer token good for this run's own process only."""
        return f"{RUN_TOKEN_PREFIX}{run_id}_{self._mac('run', run_id)}"

    def run_of(self, token: str) -> str | None:
        """The run a token was made for; None when nobody here made it."""
        run_id, _, given = token.removeprefix(RUN_TOKEN_PREFIX).partition("_")
        if not token.startswith(RUN_TOKEN_PREFIX) or not is_id(run_id):
            return None
        expected = self._mac("run", run_id)
        return run_id if hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")) else None

    def _mac(self, *fields: str) -> str:
        mac = hmac.new(self._key, digestmod=hashlib.sha256)
        for field in fields:
            data = field.encode("utf-8", "surrogatepass")
            mac.update(len(data).to_bytes(4, "big"))
            mac.update(data)
        return urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()


def payload_path(algorithm: str, run_id: str) -> str:
    return f"/data/v1/payloads/{quote(algorithm, safe='')}/requests/{run_id}"


def upload_path(algorithm: str, run_id: str) -> str:
    return f"/data/v1/results/{quote(algorithm, safe='')}/requests/{run_id}"


def result_path(key: str) -> str:
    """*key* starts with ``results/``."""
    return f"/data/v1/{quote(key)}"
