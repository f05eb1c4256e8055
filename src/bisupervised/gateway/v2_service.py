"""The cascades that speak the Open Inference Protocol, as `v2` serves them."""

from __future__ import annotations

from collections.abc import Mapping

from bisupervised import __version__
from bisupervised.gateway.access import holder_of
from bisupervised.gateway.classifier import Caller, CascadeClassifier
from bisupervised.gateway.completions import wishes_of
from bisupervised.gateway.service import Service
from bisupervised.gateway.settings import Scope as KeyScope
from bisupervised.gateway.v2 import V2, Classifier, Headers


class ServiceClassifiers:
    """The service as `v2.V2` needs it."""

    version = __version__

    def __init__(self, service: Service) -> None:
        self._service = service
        self.classifiers: Mapping[str, Classifier] = {
            name: CascadeClassifier(service, cascade, cascade.levels)
            for name, cascade in service.cascades.items()
            if cascade.settings.interface == "v2"
        }

    @property
    def ready(self) -> bool:
        return not self._service.draining

    def client(self, headers: Headers) -> Caller:
        """Who calls. Raises `Refused`."""
        client = holder_of(self._service, headers.get(b"authorization"), KeyScope.CALL)
        return Caller(client.name, wishes_of(headers.items()))

    def refused(self, code: str) -> None:
        self._service.metrics.refused(code)


def v2_app(service: Service) -> V2:
    """The application for everything under `/v2`."""
    return V2(ServiceClassifiers(service), max_body_bytes=service.settings.max_body_bytes)
