"""Ask servers politely: time limits, retries with growing waits, and Retry-After."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from raydistill import __version__
from raydistill.errors import ConfigError, DownloadError
from raydistill.log import duration, get_logger

log = get_logger(__name__)

BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
TRANSIENT = (requests.RequestException, urllib3.exceptions.HTTPError)
_PERMANENT = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.TooManyRedirects,
    requests.exceptions.SSLError,
)
LATER = "run the same command again later; it resumes"
MIRROR = "see that the internet can be reached (HTTPS_PROXY names a proxy), or give a mirror with --base-url"


@dataclass(frozen=True)
class Patience:
    """Limits of time and of retries.

    Parameters
    ----------
    attempts
        Attempts without a new byte, after which a download ends. Any progress resets the count.
    connect_seconds, stall_seconds
        Longest wait for a connection, and for the next bytes.
    first_wait, longest_wait
        Wait after the first failed attempt and the longest one [s]; it doubles in between.
    longest_asked_wait
        Longest Retry-After that is obeyed [s]. A server that asks for more ends the download.
    """

    attempts: int = 8
    connect_seconds: float = 20
    stall_seconds: float = 60
    first_wait: float = 1
    longest_wait: float = 60
    longest_asked_wait: float = 900

    def wait_after(self, failures: int) -> float:
        """Return the wait after this number of consecutive failures [s]."""
        return min(self.first_wait * 2.0 ** (failures - 1), self.longest_wait)


class Interrupted(Exception):
    """Report that another thread asked this one to stop."""


class TransientError(Exception):
    """Report a failed attempt that may succeed when it is repeated."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason, retry_after)
        self.reason, self.retry_after = reason, retry_after


def make_session() -> requests.Session:
    """Return a session that names this program; proxies come from the environment."""
    session = requests.Session()
    session.headers.update({"User-Agent": f"raydistill/{__version__}", "Accept-Encoding": "identity"})
    return session


def check_base(base: str | None) -> None:
    """Raise ConfigError for the address of a mirror without http."""
    if base and not base.startswith(("http://", "https://")):
        raise ConfigError(f"'{base}' is no address of a mirror", "--base-url", "it begins with http:// or https://")


def at_base(url: str, base: str | None) -> str:
    """Return an address on a mirror, whose first folder is the name of the host.

    Examples
    --------
    >>> at_base("https://zenodo.org/records/1/files/a.zip", "http://mirror.local/data/")
    'http://mirror.local/data/zenodo.org/records/1/files/a.zip'
    """
    return f"{base.rstrip('/')}/{url.partition('://')[2]}" if base else url


def check_status(response: requests.Response, url: str) -> None:
    """Raise TransientError if busy, DownloadError for a final refusal; 416 passes."""
    status = response.status_code
    if status in (200, 206, 416):
        return
    reason = f"the server answers {status} {response.reason or ''}".rstrip()
    if status in BUSY:
        raise TransientError(reason, parse_retry_after(response.headers))
    fix = "open the address in a browser; if the file has moved, give a mirror with --base-url"
    raise DownloadError(reason, url, fix)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After, a number or a date; None if there is none."""
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def describe_failure(error: BaseException) -> str:
    """Return the reason of a failed attempt in a few words."""
    if isinstance(error, TransientError):
        return error.reason
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "the server does not accept a connection in time"
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return "the server stopped sending"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "the server cannot be reached"
    if "IncompleteRead" in str(error):
        return "the server sent fewer bytes than it announced"
    return "the connection broke"


def count_attempts(number: int) -> str:
    """Return "1 attempt" or "8 attempts"."""
    return f"{number} attempt{'' if number == 1 else 's'}"


def check_permanent(error: BaseException, url: str) -> None:
    """Raise DownloadError if an error repeats, as for an invalid URL or certificate."""
    if isinstance(error, _PERMANENT):
        reason = " ".join(str(error).split())[:200]
        raise DownloadError(f"the address cannot be opened ({reason})", url, MIRROR) from error


def wait_for_retry(error: Exception, failures: int, patience: Patience, url: str, stop: threading.Event) -> None:
    """Wait before retrying, as the server asks, or longer after each failure.

    Raises
    ------
    DownloadError
        After too many failures, or if the server asks for too long a wait.
    Interrupted
        If `stop` is set meanwhile.
    """
    reason = describe_failure(error)
    if failures >= patience.attempts:
        fix = MIRROR if isinstance(error, requests.exceptions.ConnectionError) else LATER
        raise DownloadError(f"{reason}, after {count_attempts(failures)}", url, fix) from error
    asked = error.retry_after if isinstance(error, TransientError) else None
    if asked is not None and asked > patience.longest_asked_wait:
        what = f"{reason} and asks to wait for {duration(asked)}"
        raise DownloadError(what, url, "run the same command again after that time; it resumes") from error
    seconds = patience.wait_after(failures) if asked is None else asked
    name = urlsplit(url).path.rpartition("/")[2]
    log.info("fetch: %s: %s; attempt %d follows in %s", name, reason, failures + 1, duration(seconds))
    if stop.wait(seconds):
        raise Interrupted from error
