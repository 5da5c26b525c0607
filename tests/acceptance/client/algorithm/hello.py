"""An algorithm as users of the existing SDK write it: a payload, a class, a result."""

from dataclasses import dataclass

from dataclasses_json import DataClassJsonMixin
from nexus_client_sdk.nexus.abstractions.nexus_object import AlgorithmResult
from nexus_client_sdk.nexus.algorithms.minimalistic import MinimalisticAlgorithm
from nexus_client_sdk.nexus.configurations.configuration_model import NexusConfigurationModel
from nexus_client_sdk.nexus.input.payload_reader import AlgorithmPayload


@dataclass
class HelloPayload(AlgorithmPayload, DataClassJsonMixin):
    """What to greet; ``fail`` makes the algorithm raise."""

    name: str
    fail: bool = False


@dataclass
class HelloResult(AlgorithmResult):
    greeting: str

    def result(self) -> dict:
        return {"greeting": self.greeting}

    def to_kwargs(self) -> dict:
        return {}


class HelloAlgorithm(MinimalisticAlgorithm[HelloPayload, NexusConfigurationModel]):
    """Greets."""

    from adapta.metrics import MetricsProvider
    from injector import inject
    from nexus_client_sdk.nexus.abstractions.algorithm_cache import InputCache
    from nexus_client_sdk.nexus.abstractions.logger_factory import LoggerFactory

    @inject
    def __init__(
        self,
        metrics_provider: MetricsProvider,
        logger_factory: LoggerFactory,
        payload: HelloPayload,
        cache: InputCache,
        configuration: NexusConfigurationModel,
    ):
        super().__init__(metrics_provider, logger_factory, cache=cache, configuration=configuration)
        self._payload = payload

    async def _context_open(self):
        pass

    async def _context_close(self):
        pass

    async def _run(self, **kwargs) -> HelloResult:
        if self._payload.fail:
            raise ValueError("asked to fail")
        return HelloResult(greeting=f"hello {self._payload.name}")
