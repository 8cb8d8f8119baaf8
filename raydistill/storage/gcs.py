"""gcsfs with patience. It needs the extra `gcs`."""

from __future__ import annotations

from typing import Any

from aiohttp import ClientTimeout
from gcsfs import GCSFileSystem

from raydistill.storage.patience import Patience

LARGEST_ANSWER = 64 * 2**20  # bytes of an object that gcsfs asks for in one request


class PatientGCS(GCSFileSystem):
    """Google Cloud Storage whose requests end in time.

    Those that stream a file to disk have a limit for the next bytes alone.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("requests_timeout", ClientTimeout(sock_connect=10, sock_read=20))
        super().__init__(*args, **kwargs)
        self._patience = Patience()

    async def _call(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        is_download = "alt=media" in path
        sent = kwargs.get("data")
        num_bytes = LARGEST_ANSWER if is_download else len(sent) if isinstance(sent, bytes) else 0
        exchange = self._patience.exchange(f"gs://{'/'.join(map(str, args)) or path}", num_bytes)
        return await exchange.wait(super()._call(method, path, *args, **kwargs))
