"""One request explained by a gateway file: what `extproc explain` does, without its printing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.core.headers import Headers
from extproc.offline import stored
from extproc.offline.document import Plain, document
from extproc.offline.gate import Gate
from extproc.offline.masking import Mask, Places
from extproc.offline.raw import Message, read
from extproc.offline.trust import without_signatures

if TYPE_CHECKING:
    from extproc.config.build import Assembly


async def explain(
    assembly: Assembly, raw: bytes, address: str, now: float, response: bytes | None = None
) -> Plain:
    """Judge a request and tell everything about it, credentials hidden.

    Args:
        assembly: the gateway file; it must not serve traffic.
        raw: the request's bytes.
        address: where the connection comes from.
        now: seconds since the epoch.
        response: an upstream's, raw; whether it would be stored is told too.

    Raises:
        NotAResponse: the response is none.
    """
    gate = Gate(assembly, now)
    without_signatures(assembly, gate.note)
    await gate.start()
    try:
        judgement = await gate.judge(raw, address)
    finally:
        await gate.stop()
    message = read(raw)
    mask = Mask(
        Places.of(assembly.loaded.gateway), message if isinstance(message, Message) else None
    )
    told = document(judgement, mask)
    failures = [f"{event}: {fields.get('error', '')}" for _, event, fields in gate.log.events]
    route = judgement.verdict.route
    if response is not None and isinstance(message, Message) and route:
        headers = Headers([(name.lower(), value) for name, value in message.fields])
        lines = stored.told(assembly, route, message.method, headers, response, now)
        told |= {"response": mask.everywhere(lines)}
    return told | {"log": mask.everywhere(failures)}
