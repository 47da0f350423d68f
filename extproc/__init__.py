"""A programmable API gateway on Envoy: Envoy carries the bytes, Python plugins decide.

The map of the package:

    cli            one small module for each command
    host           the composition root: workers, their supervisor, reload, start and stop
    offline        a request judged without Envoy: explain, policy tests
    config         the gateway file: read, validate, merge, build into plugins per route
    envoy_config   the compiler: gateway file → Envoy's configuration
    authentication, authorization, caching, aggregation, transformation   the features
    expressions    CEL conditions, text with holes, JMESPath shapes
    core           pure: values, the law of an exchange, plugin contract, chain, guard, ports
    adapters       the edge: gRPC servers, wire format, HTTP, stores, processes
    testing        small real implementations of the ports, for tests of plugins

Arrows of import: cli → host → config → features → expressions → core; host → adapters → core;
host → envoy_config → config.schema, core; host → offline → what host imports.
A plugin of yours needs only what is named here.
"""

from extproc.core.headers import Headers
from extproc.core.plugin import Plugin
from extproc.core.ports import Services
from extproc.core.principal import Principal
from extproc.core.values import Outcome, Request, Response

__all__ = ["Headers", "Outcome", "Plugin", "Principal", "Request", "Response", "Services"]
