"""Blobs on their way down: one request, read as it comes, and gone on with where its connection was cut.

One request reads one version, whatever is written meanwhile. The SDK's own download asks for 4 MiB after 4 MiB, and
cannot go on when the blob is written in between; so this uses the SDK's transport and signing, not its download.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from email.utils import formatdate
from typing import Any

from azure.core import AsyncPipelineClient
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy, UserAgentPolicy
from azure.core.rest import AsyncHttpResponse, HttpRequest

from loom.errors import StoreUnavailableError

from .failures import Failure, failure_of
from .session import Session
from .signing import read_query

__all__ = ["Downloads"]

_SCOPE = "https://storage.azure.com/.default"
_VERSION = "2021-12-02"


class Downloads:
    """Reads blobs of a session's container."""

    def __init__(self, session: Session) -> None:
        self._session = session
        policies: list[Any] = [UserAgentPolicy("loom-azure")]
        if session.token is not None:
            more = {} if session.options.endpoint.startswith("https") else {"enforce_https": False}
            policies.append(AsyncBearerTokenCredentialPolicy(session.token, _SCOPE, **more))
        self._pipeline: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            session.options.endpoint, transport=session.transport, policies=policies
        )

    async def read(self, encoded: str, start: int, length: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes of the range, in pieces of up to 256 KiB.

        Raises the SDK's error (404) where there is no such blob, and StoreUnavailableError, also in the middle: where
        the connection was cut and the blob has been written since, its version cannot be read to the end.
        """
        budget = self._session.budget()
        etag = ""
        while length is None or length > 0:
            try:
                response = await self._session.once(lambda: self._open(encoded, start, length, etag))  # noqa: B023
                if response is None:  # the range begins at the end or after it
                    return
                try:
                    etag = response.headers.get("ETag", "")
                    left = int(response.headers["Content-Length"])
                    length = left
                    async for piece in response.iter_raw():
                        start += len(piece)
                        length -= len(piece)
                        budget.progress()
                        yield piece
                finally:
                    await response.close()
                if length > 0:
                    await budget.another_try(_CUT, EOFError(f"{length} bytes were missing"))
            except AzureError as error:
                failure = failure_of(error)
                if etag and failure.status in (404, 412):
                    raise StoreUnavailableError(
                        f"the connection to {self._session.options.where} was cut while {encoded[:80]!r} was read, and "
                        "the blob was written or deleted since; read it again",
                        container=self._session.options.container,
                        blob=encoded,
                    ) from error
                if failure.code == "BlobNotFound" or (failure.status == 404 and not failure.code):
                    raise
                await budget.another_try(failure, error)

    async def _open(self, encoded: str, start: int, length: int | None, etag: str) -> AsyncHttpResponse | None:
        url = self._session.blob(encoded).url
        path, _, signed = url.partition("?")
        query = signed or read_query(self._session, encoded)
        end = "" if length is None else start + length - 1
        headers = {"x-ms-version": _VERSION, "x-ms-date": formatdate(usegmt=True)}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-{end}"
        if etag:
            headers["If-Match"] = etag
        request = HttpRequest("GET", f"{path}?{query}" if query else path, headers=headers)
        response = await self._pipeline.send_request(request, stream=True)
        if response.status_code in (200, 206):
            return response
        try:
            await response.read()
            if response.status_code == 416:
                return None
            raise HttpResponseError(response=response)
        finally:
            await response.close()


_CUT = Failure(code="NoConnection", again=True, reason="the connection was cut while a blob was read")
