"""Ask servers politely: time limits, retries with growing waits, and Retry-After.

`open_url` is the only way to a server; `check_base` verifies a mirror's address before. Each redirect
must lead to https and to a known host. `read_blocks` and `read_body` limit time and size of a body.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from urllib3.util import parse_url

from raydistill import __version__
from raydistill.errors import ConfigError, DownloadError
from raydistill.log import duration, get_logger
from raydistill.storage.patience import say_waiting

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
CHUNK = 1 << 18  # bytes
SLOWEST = 1000  # bytes a second; a server below counts as silent
MOST_REDIRECTS = 5
DEFAULT_PORTS = {"https": 443, "http": 80}
OTHERWISE = "open the address in a browser, or give a mirror with --base-url"
MIRROR = "see that the internet can be reached (HTTPS_PROXY names a proxy), or give a mirror with --base-url"


@dataclass(frozen=True)
class Patience:
    """Limits of time and of retries.

    Parameters
    ----------
    attempts
        Attempts without progress, after which a download ends. `least_progress` resets the count.
    connect_seconds, stall_seconds
        Longest wait for a connection, and for the next bytes. A body must keep a rate of 1 kB a
        second over `stall_seconds`.
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

    @property
    def least_progress(self) -> float:
        """Return the bytes that an attempt must bring to count as progress."""
        return SLOWEST * self.stall_seconds


class Interrupted(Exception):
    """Report that another thread asked this one to stop."""


class TransientError(Exception):
    """Report a failed attempt that may succeed when it is repeated."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason, retry_after)
        self.reason, self.retry_after = reason, retry_after


class _Session(requests.Session):
    """A session that leaves redirects to `open_url`.

    Requests would read the body of a redirect, which may be endless.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def make_session() -> requests.Session:
    """Return a session that names this program; proxies come from the environment."""
    session = _Session()
    session.headers.update({"User-Agent": f"raydistill/{__version__}", "Accept-Encoding": "identity"})
    return session


@dataclass(frozen=True)
class Reach:
    """Addresses that requests may reach, beside the host of the first one.

    Parameters
    ----------
    hosts
        Further hosts to which the server may redirect.
    insecure
        Accept http. Loopback needs no encryption, and is always accepted.
    """

    hosts: frozenset[str] = frozenset()
    insecure: bool = False

    def check_redirect(self, url: str, first: str) -> None:
        """Raise DownloadError if `first` redirects to an address that is not one to ask."""
        try:
            is_safe, host, origin = self.is_safe(url), _place(url), _place(first)
        except ValueError as error:
            raise DownloadError("the server redirects to an address that cannot be read", first, OTHERWISE) from error
        if not is_safe:
            what = f"the server redirects to {url:.200}, without https, so anyone on the way could change the file"
            raise DownloadError(what, first, f"{OTHERWISE}, or accept http with --insecure")
        if host not in {origin, *self.hosts}:
            what = f"the server redirects to {host:.200}, which is not a known host of these files"
            raise DownloadError(what, first, OTHERWISE)

    def is_safe(self, url: str) -> bool:
        """Return whether the address is encrypted, or need not be."""
        parsed = parse_url(url)
        return parsed.scheme == "https" or (
            parsed.scheme == "http" and (self.insecure or _is_loopback(parsed.hostname or ""))
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _place(url: str) -> str:
    """Return the host of an address, and its port unless it is the scheme's own."""
    parsed = parse_url(url)
    usual = parsed.port in (None, DEFAULT_PORTS.get(parsed.scheme or ""))
    return f"{parsed.hostname}" if usual else f"{parsed.hostname}:{parsed.port}"


@contextmanager
def open_url(
    session: requests.Session, url: str, patience: Patience, reach: Reach, headers: Mapping[str, str] | None = None
) -> Iterator[requests.Response]:
    """Hold the response to a request, after at most five redirects; read no body.

    Raises
    ------
    DownloadError
        If the server redirects to http or to an unknown host, or too often.
    """
    limits, target = (patience.connect_seconds, patience.stall_seconds), url
    for _ in range(MOST_REDIRECTS + 1):
        with say_waiting(target, patience.stall_seconds):
            response = session.get(target, headers=headers, stream=True, timeout=limits, allow_redirects=False)
        with response:
            if not response.is_redirect:
                yield response
                return
            target = _joined(target, response.headers["Location"])
        reach.check_redirect(target, url)
    raise DownloadError(f"the server redirects more than {MOST_REDIRECTS} times", url, OTHERWISE)


def _joined(url: str, location: str) -> str:
    """Return the address of a redirect, which may be relative."""
    try:
        return urljoin(url, requests.utils.requote_uri(location))
    except ValueError as error:
        raise DownloadError("the server redirects to an address that cannot be read", url, OTHERWISE) from error


def read_blocks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """Yield a body as it arrives. TransientError if slower than 1 kB a second."""
    started, received = time.monotonic(), 0
    with say_waiting(response.url, patience.stall_seconds) as hear:
        # read1 returns what has arrived: no byte is lost where a server stalls in the middle of a block.
        while block := response.raw.read1(CHUNK, decode_content=False):
            hear()
            yield block
            received += len(block)
            if time.monotonic() - started > patience.stall_seconds:
                if received < patience.least_progress:
                    raise TransientError("the server sends less than 1 kB a second")
                started, received = time.monotonic(), 0


def read_body(response: requests.Response, patience: Patience, most: int) -> bytes:
    """Return a whole body of at most `most` bytes. DownloadError if it is larger."""
    body = bytearray()
    for block in read_blocks(response, patience):
        body += block
        if len(body) > most:
            what = f"the server sends more than {most // 1_000_000} MB"
            raise DownloadError(what, response.url, "open the address in a browser")
    return bytes(body)


def check_base(base: str | None, insecure: bool = False) -> None:
    """Raise ConfigError for the address of a mirror without https."""
    if not base:
        return
    if not base.startswith(("http://", "https://")):
        raise ConfigError(f"'{base}' is not an address of a mirror", "--base-url", "it begins with https://")
    try:
        accepted = Reach(insecure=insecure).is_safe(base)
    except ValueError as error:
        raise ConfigError(f"'{base}' is not an address of a mirror", "--base-url", "correct it") from error
    if not accepted:
        what = f"'{base}' is not encrypted, so anyone on the way could change the files"
        raise ConfigError(what, "--base-url", "give an address with https, or add --insecure")


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
    if (seconds := parse_whole(text)) is not None:
        return float(seconds)
    try:
        moment = parsedate_to_datetime(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return None


def parse_whole(text: str) -> int | None:
    """Return a header's whole number; None for other text or too many digits."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


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


def retry_wait(error: Exception, failures: int, patience: Patience, url: str) -> float:
    """Return the wait before a retry [s].

    It is what the server asks for, or else grows with each failure.

    Raises
    ------
    DownloadError
        If the server asks for too long a wait.
    """
    asked = error.retry_after if isinstance(error, TransientError) else None
    if asked is None:
        return patience.wait_after(failures)
    if asked > patience.longest_asked_wait:
        what = f"{describe_failure(error)} and asks to wait for {duration(asked)}"
        raise DownloadError(what, url, "run the same command again after that time; it resumes") from error
    return asked


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
    seconds = retry_wait(error, failures, patience, url)
    name = urlsplit(url).path.rpartition("/")[2]
    log.info("fetch: %s: %s; attempt %d follows in %s", name, reason, failures + 1, duration(seconds))
    if stop.wait(seconds):
        raise Interrupted from error
