"""Tells the upstream which tenant a host stands for."""

from extproc import Plugin, Request, Response


class Tenant(Plugin):
    """Sets a header from the host's first label."""

    header: str = "x-tenant"

    def on_request(self, request: Request) -> Response | None:
        """Refuse a host that names no tenant."""
        tenant, _, rest = request.host.partition(".")
        if not rest or tenant.isdigit():
            return Response.problem(400, "Tenant missing", "The host names no tenant.")
        request.headers[self.header] = tenant
        return None
