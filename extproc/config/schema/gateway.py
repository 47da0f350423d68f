"""The file as a whole."""

from __future__ import annotations

from pydantic import Field

from extproc.config.schema.listener import Admin, Listener
from extproc.config.schema.routes import Accepted, Authentication, Route, Version
from extproc.config.schema.security import Authenticator, Consumer, Identity, PolicyRules
from extproc.config.schema.shapes import Name, Names, Strict, WrittenFile
from extproc.config.schema.store import StoreUrl
from extproc.config.schema.upstreams import Upstream


class Defaults(Strict):
    """What routes get that say nothing else."""

    authentication: Authentication | None = Field(
        None, description="none, a list, or `all:` and a list."
    )


class Decisions(Strict):
    """Where decision records go."""

    file: WrittenFile | None = Field(
        None,
        description="A file, opened anew when moved; else standard output.",
    )


class Revocations(Strict):
    """Where revocations are kept."""

    file: WrittenFile | None = Field(
        None,
        description="A file that outlives a restart; else they are forgotten with it.",
    )


class Gateway(Strict):
    """A gateway file, with everything it includes."""

    version: Version = Field(description="Of the format: 1.")
    listener: Listener = Field(description="Where clients come in.")
    admin: Admin = Field(Admin(), description="The administration interface.")
    store: StoreUrl = Field(
        "memory", description="memory, or redis://host:6379/0 to share what is stored."
    )
    decisions: Decisions = Field(Decisions(), description="Where decision records go.")
    revocations: Revocations = Field(Revocations(), description="Where revocations are kept.")
    upstreams: dict[Name, Upstream] = Field({}, description="By name.")
    authentication: dict[Name, Authenticator] = Field({}, description="By name.")
    identity: Identity | None = Field(None, description="What upstreams are told.")
    consumers: dict[Name, Consumer] = Field({}, description="By name, first match wins.")
    policies: dict[Name, PolicyRules] = Field(
        {}, description="By name; or the folder of policy files."
    )
    defaults: Defaults = Field(Defaults(), description="For routes that say nothing else.")
    include: Names = Field(
        [], description="Globs of files that add routes, policies and upstreams."
    )
    routes: list[Route] = Field(min_length=1, description="In any order.")

    @property
    def listeners(self) -> dict[str, Listener]:
        """Return the listeners by name; this version has one, `main`."""
        return {"main": self.listener}

    @property
    def shared_store(self) -> str | None:
        """Return where replicas share what they store; None where each keeps its own."""
        return None if self.store == "memory" else self.store

    @property
    def identity_headers(self) -> list[str]:
        """Return the headers by which upstreams are told who is calling."""
        if self.identity is None:
            return []
        assertion = self.identity.assertion
        own = [assertion.header] if assertion is not None else []
        return sorted({*(name.lower() for name in self.identity.headers), *own})

    def accepted(self, route: Route) -> Accepted:
        """Return what a route takes as credentials: its own word, else the defaults'."""
        return route.authentication or self.defaults.authentication or Accepted()

    def credential_headers(self, route: Route) -> list[str]:
        """Return the headers that are taken off before a route's upstream."""
        upstream = self.upstreams.get(route.upstream or "")
        if upstream is not None and upstream.forward_credentials:
            return []
        return sorted({name for model in self.authentication.values() for name in model.headers})

    def removed_headers(self, route: Route) -> list[str]:
        """Return those of them that the route doesn't set itself, as it does for its upstream."""
        changes = route.request.headers.set if route.request is not None else {}
        return [name for name in self.credential_headers(route) if name not in changes]
