"""The sections of a configuration, for the description only: nothing is decoded into these."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class Container(msgspec.Struct, omit_defaults=True):
    image: str = ""
    registry: str = ""
    versionTag: str = ""
    serviceAccountName: str = ""


class ComputeResources(msgspec.Struct, omit_defaults=True):
    """Quantities as Kubernetes writes them. ``limits`` and ``requests`` go by resource name."""

    cpuLimit: str = ""
    memoryLimit: str = ""
    limits: dict[str, str] = {}
    requests: dict[str, str] = {}
    defaultResourceQuota: str = ""
    customResources: dict[str, str] = {}


class WorkgroupRef(msgspec.Struct, omit_defaults=True):
    name: str = ""
    group: str = ""
    kind: str = ""


class PayloadConfiguration(msgspec.Struct, omit_defaults=True):
    payloadValidFor: str = ""
    payloadSerializationMode: Literal["s3", "backend"] = "s3"


class RuntimeEnvironment(msgspec.Struct, omit_defaults=True):
    environmentVariables: list[dict[str, Any]] = []
    mappedEnvironmentVariables: list[dict[str, Any]] = []
    configurationFileMounts: dict[str, Any] = {}
    secretFileMounts: dict[str, Any] = {}
    storageMounts: dict[str, Any] = {}
    annotations: dict[str, str] = {}
    deadlineSeconds: int = 0
    maximumRetries: int = 0


class ErrorHandlingBehaviour(msgspec.Struct, omit_defaults=True):
    transientExitCodes: list[int] = []
    fatalExitCodes: list[int] = []


class DatadogIntegrationSettings(msgspec.Struct, omit_defaults=True):
    mountDatadogSocket: bool = False


class Configuration(msgspec.Struct, omit_defaults=True):
    """What a run is started with. In a request every section may be left out, and says only what differs from the template."""

    container: Container | UnsetType = UNSET
    computeResources: ComputeResources | UnsetType = UNSET
    workgroupRef: WorkgroupRef | UnsetType = UNSET
    command: str = ""
    args: list[str] = []
    payloadConfiguration: PayloadConfiguration | UnsetType = UNSET
    runtimeEnvironment: RuntimeEnvironment | UnsetType = UNSET
    errorHandlingBehaviour: ErrorHandlingBehaviour | UnsetType = UNSET
    datadogIntegrationSettings: DatadogIntegrationSettings | UnsetType = UNSET


class ErrorBody(msgspec.Struct):
    """What went wrong and what to do about it; ``code`` is stable."""

    code: str
    message: str
    hint: str


class ErrorAnswer(msgspec.Struct):
    """The form of every error of ``latest``. Errors of v1 are text, its 404 HTML."""

    error: ErrorBody
