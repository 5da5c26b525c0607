"""Runs inside the real client's environment: one call of the client, its outcome as JSON on the last line.

``calls.py URL CALL ARGUMENTS-AS-JSON``. One process a call, since the client's native part keeps one client a process and ends
the process on some errors: that must show.
"""

import json
import sys
from dataclasses import asdict, is_dataclass

from adapta.logs import SemanticLogger
from adapta.logs.models import LogLevel
from nexus_client_sdk.clients.nexus_scheduler_client import NexusSchedulerClient
from nexus_client_sdk.models.scheduler import SdkCustomRunConfiguration, SdkParentRequest


def plain(value):
    if is_dataclass(value):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return getattr(value, "value", str(value))


def main() -> None:
    url, call, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    logger = SemanticLogger().add_log_source(log_source_name="calls", min_log_level=LogLevel.ERROR, is_default=True)
    client = NexusSchedulerClient.create(url=url, logger=logger)
    if parent := arguments.pop("parent", None):
        arguments["parent_request"] = SdkParentRequest.create(**parent)
    if configuration := arguments.pop("configuration", None):
        arguments["custom_configuration"] = SdkCustomRunConfiguration.create(**configuration)
    try:
        answer = getattr(client, call)(**arguments)
        if call in ("get_run_results", "await_tagged"):
            answer = list(answer)
        outcome = {"answer": plain(answer)}
    except Exception as error:
        outcome = {"error": type(error).__name__, "text": str(error)}
    print("\nOUTCOME " + json.dumps(outcome))


main()
