"""Check what can be checked of a configuration before anything listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from medseg_runtime.model.bundle import Bundle
from medseg_service.bearer_token import read_token
from medseg_service.errors import ConfigurationError, check_all
from medseg_service.node.config import DicomWeb, NodeConfig
from medseg_service.node.dicomweb import DicomWebClient
from medseg_service.tls import client_context, server_context


def check_config(config: NodeConfig) -> bool:
    """Check all files that a configuration names. Return whether the model needs a point.

    Raises:
        ConfigurationError, BundleError: a file cannot be used, or a rule asks what the model cannot do. All of it is named.
    """
    needs_point: list[bool] = []
    check_all([lambda: needs_point.append(_check_model(config)), *_checks_of_files(config)])
    return needs_point[0]


def _check_model(config: NodeConfig) -> bool:
    model = config.model
    bundle = Bundle.load(
        None if model.bundle is None else str(model.bundle),
        require_signature=None if model.require_signature is None else str(model.require_signature),
        bundle_sha256=model.bundle_sha256,
    )
    needs_point = bundle.manifest.input.geometry == "native"
    if config.rules and needs_point:
        raise ConfigurationError(
            f"the model {bundle.manifest.name} needs a point, and a rule gives none",
            "Remove [[rules]], and point by an SR or by POST /jobs; or set model.bundle to one that sees whole images.",
        )
    return needs_point


def _checks_of_files(config: NodeConfig) -> Iterator[Callable[[], object]]:
    for server in (config.dicom.tls, config.http.tls):
        if server is not None:
            yield partial(server_context, server)
    for web in (config.source, config.destination.dicomweb):
        if web is not None:
            yield partial(_check_web, web)
    if config.destination.dicom is not None and config.destination.dicom.tls is not None:
        yield partial(client_context, config.destination.dicom.tls)
    if config.http.token_file is not None:
        yield partial(read_token, config.http.token_file)


def _check_web(config: DicomWeb) -> None:
    DicomWebClient(config).close()
