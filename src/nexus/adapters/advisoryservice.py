"""One bounded HTTP exchange with an advisory service. Used by the adapters of OSV and of PyPI's own field, and by `update`.

Only http and https are followed, answers have a size and a time limit, and an address is shown without user name and password.
Blocking: callers ask for several things through a thread pool.
"""

from __future__ import annotations

import contextlib
import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from nexus.kernel.errors import Unavailable

TIME_LIMIT_S = 30.0
MAX_BYTES = 32 * 1024 * 1024
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()  # without handlers for `file:` and `ftp:`
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def exchange(url: str, body: bytes | None = None, *, limit: int = MAX_BYTES, time_limit_s: float = TIME_LIMIT_S) -> bytes | None:
    """The body of the answer (POST when *body* is given); None for 404. Raises Unavailable for everything else."""
    shown = _USERINFO.sub("", url)
    if urlsplit(url).scheme not in ("http", "https"):
        raise Unavailable(f"`{shown}` is no http or https address", hint="give the address of the service")
    headers = {"User-Agent": "nexus", "Accept": "application/json, application/octet-stream;q=0.5"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 the scheme was checked
    try:
        with contextlib.closing(_opener().open(request, timeout=time_limit_s)) as answer:
            data: bytes = answer.read(limit + 1)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise Unavailable(f"`{shown}` answered {error.code}", hint="try again later; the old snapshot stays as it is") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"`{shown}` does not answer: {reason}", hint="check the network; the old snapshot stays as it is"
        ) from error
    if len(data) > limit:
        raise Unavailable(f"`{shown}` sent more than {limit} bytes")
    return data
