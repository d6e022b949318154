"""Answer with a file that is made while it is sent.

Decides that a file is never cut short in silence: what fails before the first byte is a problem like any other,
what fails later ends the connection without the end of the body, so that no reader takes a part for the whole.
"""

from collections.abc import AsyncIterator

from aiohttp import web

from seatd.telemetry import log


async def stream(
    request: web.Request, chunks: AsyncIterator[bytes], *, content_type: str, filename: str
) -> web.StreamResponse:
    """Send chunks as a file to be saved under `filename`; at least one chunk."""
    first = await anext(chunks)
    answer = web.StreamResponse(
        headers={
            "Content-Type": content_type,
            "Content-Disposition": f'attachment; filename="{filename}"',
            "Cache-Control": "no-store",
        }
    )
    await answer.prepare(request)
    try:
        await answer.write(first)
        async for chunk in chunks:
            await answer.write(chunk)
        await answer.write_eof()
    except ConnectionResetError:
        raise
    except Exception:  # noqa: BLE001 - the status has been sent: only the connection can still say it
        log.exception("a file could not be sent whole", filename=filename)
        if request.transport is not None:
            request.transport.abort()
    return answer
