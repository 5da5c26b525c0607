"""From a stored run to an attempt an engine can start: rendered command, environment, limits. Pure but for the signing clock."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec

from nexus.runs import commands, diagnosis, dispatch, urls
from nexus.runs.configuration import Configuration
from nexus.runs.fields import is_number
from nexus.runs.model import Run
from nexus.runs.ports import Launch
from nexus.runs.results import folder_key
from nexus.runs.templates import Template, Workgroup
from nexus.runs.urls import Signer

_LONGEST = timedelta(days=7)  # how long an upload URL lives when the run has no deadline
_HIDDEN = "…"


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where an algorithm's process finds the service (base URLs without a trailing slash) and its own result folder.

    ``need_token``: the service answers no caller without a token, so existing clients inside algorithms must be given one.
    """

    scheduler: str
    receiver: str
    results_root: str
    need_token: bool = False


def claim_of(run: Run, configuration: Configuration) -> dispatch.Claim:
    """What the run would hold of the machine, from its requests."""
    requests = configuration.requests
    return dispatch.Claim(
        run_id=run.id,
        parent_id=run.parent.run_id if run.parent else None,
        cpu_millicores=requests.cpu_millicores if requests.cpu_millicores is not None else dispatch.DEFAULT_CPU_MILLICORES,
        memory_bytes=requests.memory_bytes if requests.memory_bytes is not None else dispatch.DEFAULT_MEMORY_BYTES,
    )


def launch_of(
    run: Run,
    template: Template,
    configuration: Configuration,
    workgroup: Workgroup,
    *,
    addresses: Addresses,
    signer: Signer,
    used_s: float,
) -> Launch:
    """The next attempt of *run*, *used_s* seconds after its first start. URLs are signed now: they count from this start."""
    payload_url = f"{addresses.scheduler}{payload_link(run, configuration, signer)}"
    return Launch(
        run_id=run.id,
        algorithm=run.algorithm,
        attempt=run.attempt + 1,
        argv=commands.render(configuration, payload_url=payload_url, run_id=run.id),
        environment=_environment(run, configuration, workgroup, addresses, signer),
        local=template.local if template.trusted else {},
        deadline_s=diagnosis.time_left(configuration, used_s),
        cpu_millicores=configuration.limits.cpu_millicores,
        memory_bytes=configuration.limits.memory_bytes,
    )


def payload_link(run: Run, configuration: Configuration, signer: Signer) -> str:
    """Path and query of a payload URL valid from now for as long as the request, or the template, says."""
    path = urls.payload_path(run.algorithm, run.id)
    return f"{path}?{signer.sign('GET', path, run.payload_valid_for or configuration.payload_valid_for)}"


def submission_text(run: Run, configuration: Configuration, workgroup: Workgroup) -> str:
    """The rendered submission for people (the buffer route): no URL is signed and no token shown."""
    argv = commands.render(configuration, payload_url=_HIDDEN, run_id=run.id)
    limits = configuration.limits
    return json.dumps(
        {
            "requestId": run.id,
            "algorithm": run.algorithm,
            "cluster": workgroup.cluster,
            "command": list(argv),
            "environment": dict(sorted(configuration.environment.items())),
            "limits": {"cpuMillicores": limits.cpu_millicores, "memoryBytes": limits.memory_bytes},
            "deadlineSeconds": configuration.deadline_s,
            "maximumRetries": configuration.maximum_retries,
        },
        indent=2,
    )


def shard_name(workgroup: Workgroup) -> str:
    """The cluster's name; never a number, which the algorithms' readers of settings would make one of."""
    return f"shard-{workgroup.cluster}" if is_number(workgroup.cluster) else workgroup.cluster


def _environment(
    run: Run, configuration: Configuration, workgroup: Workgroup, addresses: Addresses, signer: Signer
) -> dict[str, str]:
    upload = urls.upload_path(run.algorithm, run.id)
    valid_for = timedelta(seconds=configuration.deadline_s) + timedelta(hours=1) if configuration.deadline_s else _LONGEST
    folder = f"{addresses.results_root}/{folder_key(run.id)}"
    token = signer.run_token(run.id)
    parent = {}
    if run.parent is not None:
        parent = {
            "NEXUS__PARENT_ALGORITHM_NAME": run.parent.algorithm,
            "NEXUS__PARENT_REQUEST_ID": run.parent.run_id,
        }
    return {
        "PYTHONUNBUFFERED": "1",  # what a Python algorithm prints is in its log at once
        "NEXUS__RESULT__OUTPUT_PATH": f"file://{folder}",
        **({"NEXUS__CLIENT__SCHEDULER_ACCESS_TOKEN": token} if addresses.need_token else {}),
        **configuration.environment,
        "NEXUS__ALGORITHM_NAME": run.algorithm,
        "NEXUS__SHARD_NAME": shard_name(workgroup),
        **parent,
        "NEXUS__CLIENT__SCHEDULER": addresses.scheduler,
        "NEXUS__CLIENT__RECEIVER": addresses.receiver,
        "NEXUS__RUN_ID": run.id,
        "NEXUS__RUN_TOKEN": token,
        "NEXUS__ATTEMPT": str(run.attempt + 1),
        "NEXUS__RESULT_FOLDER": folder,
        "NEXUS__RESULT_UPLOAD_URL": f"{addresses.receiver}{upload}?{signer.sign('PUT', upload, valid_for)}",
    }
