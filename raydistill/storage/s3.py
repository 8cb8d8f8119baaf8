"""s3fs with patience. It needs the extra `s3`."""

from __future__ import annotations

from typing import Any

from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem

from raydistill.storage.patience import Exchange, Patience


class PatientS3(S3FileSystem):
    """S3 whose requests end in time; all of them pass `_call_s3`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = Patience()

    async def _call_s3(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        where = f"s3://{kwargs.get('Bucket', '')}/{kwargs.get('Key') or kwargs.get('Prefix', '')}"
        exchange = self._patience.exchange(where, len(kwargs.get("Body") or b""))
        answer = await exchange.wait(super()._call_s3(method, *args, **kwargs))
        if method == "get_object":
            answer["Body"] = _Body(answer["Body"], exchange)
        return answer

    call_s3 = sync_wrapper(_call_s3)


class _Body:
    """The bytes of an object."""

    def __init__(self, body: Any, exchange: Exchange) -> None:
        self._body, self._exchange = body, exchange

    async def read(self, amount: int | None = None) -> bytes:
        return await self._exchange.read(self._body, amount)

    def close(self) -> None:
        self._body.close()
