"""Cut-outs by position: addresses, pace, retries, invalid pictures, resumed runs."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from raydistill.errors import CatalogError, ConfigError, DownloadError
from raydistill.fetching.cutouts import CutoutRequest, fetch_cutouts, list_galaxies
from raydistill.fetching.http import Interrupted, Patience
from raydistill.fetching.threads import Pace
from tests.damage import flipped
from tests.unit.fetching.file_server import HTML, Behaviour, FileServer, Request, fail, hang_up, send, truncate

SIDE = 64
FAST = 1000.0  # requests a second


def jpeg(side: int = SIDE, blank: bool = False) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.zeros_like(pixels) if blank else pixels).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "galaxies.csv"
    rows = [f"{1000 + n},{150 + n / 8},{2 - n / 8},{5 + n}" for n in range(6)]
    path.write_text("objid,ra,dec,petroR90_r\n" + "\n".join(rows) + "\n")
    return str(path)


class Service:
    """A cut-out service on the file server: a behaviour for each right ascension.

    All other right ascensions get a JPEG.
    """

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.odd: dict[str, list[Behaviour]] = {}
        server.fallback = self.answer
        self.lock = threading.Lock()

    def answer(self, request: Request) -> None:
        query = parse_qs(urlsplit(request.path).query)
        with self.lock:
            behaviours = self.odd.get(query["ra"][0], [])
            behaviour = (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]) if behaviours else None
        (behaviour or send(jpeg(), "image/jpeg"))(request)


@pytest.fixture
def service(server: FileServer) -> Service:
    return Service(server)


def failures(folder: Path) -> dict[str, str]:
    with (folder / "failures.csv").open() as stream:
        return {row["object_id"]: row["reason"] for row in csv.DictReader(stream)}


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.jpg")}


def test_pictures_have_the_names_of_their_objects(
    table: str, service: Service, quick: Patience, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    report = fetch_cutouts(
        table, folder, CutoutRequest(pixels=SIDE), rate=FAST, base_url=service.server.url, patience=quick
    )
    assert (report.fetched, report.present, report.failed) == (6, 0, 0)
    assert names(folder) == {str(1000 + n) for n in range(6)}
    assert (folder / "1003.jpg").read_bytes() == jpeg()
    assert failures(folder) == {}


@pytest.mark.parametrize(
    ("request_", "host", "expected"),
    [
        (CutoutRequest(), "skyserver.sdss.org/dr17/SkyServerWS/ImgCutout/getjpeg",
         {"ra": "150.1250000", "dec": "1.8750000", "scale": "0.12", "width": "424", "height": "424"}),
        (CutoutRequest(pixels=212), "skyserver.sdss.org/dr17/SkyServerWS/ImgCutout/getjpeg",
         {"ra": "150.1250000", "dec": "1.8750000", "scale": "0.24", "width": "212", "height": "212"}),
        (CutoutRequest("legacy", 256, 0.262), "www.legacysurvey.org/viewer/cutout.jpg",
         {"ra": "150.1250000", "dec": "1.8750000", "layer": "ls-dr10", "pixscale": "0.262", "size": "256"}),
        (CutoutRequest("legacy", 424, None, "sdss"), "www.legacysurvey.org/viewer/cutout.jpg",
         {"ra": "150.1250000", "dec": "1.8750000", "layer": "sdss", "pixscale": "0.12", "size": "424"}),
    ],
)  # fmt: skip
def test_address_has_the_scale_of_galaxy_zoo_2(
    request_: CutoutRequest, host: str, expected: dict[str, str], table: str
) -> None:
    """R90 of the second galaxy is 6 arcsec: 0.02 R90 = 0.12 arcsec a pixel at 424 px."""
    url = urlsplit(list_galaxies(table, request_, None, None)[1].url)
    assert f"{url.netloc}{url.path}" == host
    assert {name: value for name, (value,) in parse_qs(url.query).items()} == expected


def test_second_run_asks_only_for_what_is_missing(
    table: str, service: Service, quick: Patience, tmp_path: Path
) -> None:
    folder, url = tmp_path / "cut", service.server.url
    service.odd["150.2500000"] = [fail(404), send(jpeg())]
    first = fetch_cutouts(table, folder, CutoutRequest(pixels=SIDE), rate=FAST, base_url=url, patience=quick)
    assert (first.fetched, first.failed) == (5, 1)
    assert failures(folder) == {"1002": "the server answers 404 Not Found"}
    before = len(service.server.log)
    second = fetch_cutouts(table, folder, CutoutRequest(pixels=SIDE), rate=FAST, base_url=url, patience=quick)
    assert (second.fetched, second.present, second.failed) == (1, 5, 0)
    assert len(service.server.log) == before + 1
    assert failures(folder) == {}


@pytest.mark.parametrize(
    ("behaviours", "reason"),
    [
        ([send(HTML)], "the server sent a web page ('Sign in')"),
        ([send(b"out of footprint", "image/jpeg")], "the server sent no JPEG"),
        ([send(jpeg(blank=True), "image/jpeg")], "the picture is blank; the position may be outside the survey"),
        ([send(jpeg(48), "image/jpeg")], "the picture has 48 × 48 px"),
        ([send(jpeg()[:700], "image/jpeg")], "the JPEG is damaged"),
        ([fail(404)], "the server answers 404 Not Found"),
        ([fail(500)], "the server answers 500 Internal Server Error, after 4 attempts"),
        ([hang_up()], "the server cannot be reached, after 4 attempts"),
    ],
)
def test_what_is_no_picture_is_reported_with_its_reason(
    behaviours: list[Behaviour], reason: str, table: str, service: Service, quick: Patience, tmp_path: Path
) -> None:
    service.odd["150.3750000"] = behaviours
    folder = tmp_path / "cut"
    report = fetch_cutouts(
        table, folder, CutoutRequest(pixels=SIDE), rate=FAST, base_url=service.server.url, patience=quick
    )
    assert report.failed == 1
    assert failures(folder)["1003"].startswith(reason)
    assert names(folder) == {"1000", "1001", "1002", "1004", "1005"}


@pytest.mark.parametrize("behaviour", [fail(503), hang_up(), fail(429)])
def test_passing_failure_is_retried(
    behaviour: Behaviour, table: str, service: Service, quick: Patience, tmp_path: Path
) -> None:
    service.odd["150.3750000"] = [behaviour, behaviour, send(jpeg())]
    report = fetch_cutouts(
        table, tmp_path / "cut", CutoutRequest(pixels=SIDE), rate=FAST, base_url=service.server.url, patience=quick
    )
    assert (report.fetched, report.failed) == (6, 0)


def test_truncated_picture_is_fetched_again(table: str, service: Service, quick: Patience, tmp_path: Path) -> None:
    def cut(request: Request) -> None:
        request.data = jpeg()
        truncate(300)(request)

    service.odd["150.3750000"] = [cut, send(jpeg())]
    report = fetch_cutouts(
        table, tmp_path / "cut", CutoutRequest(pixels=SIDE), rate=FAST, base_url=service.server.url, patience=quick
    )
    assert (report.fetched, report.failed) == (6, 0)


def test_retry_after_holds_all_requests_back(table: str, service: Service, quick: Patience, tmp_path: Path) -> None:
    service.odd["150.0000000"] = [fail(429, "1"), send(jpeg())]
    fetch_cutouts(
        table,
        tmp_path / "cut",
        CutoutRequest(pixels=SIDE),
        rate=FAST,
        parallel=1,
        base_url=service.server.url,
        patience=quick,
    )
    first, second = service.server.log[:2]
    assert second.started - first.started > 0.95


def test_rate_is_kept_over_all_threads(table: str, service: Service, quick: Patience, tmp_path: Path) -> None:
    fetch_cutouts(
        table,
        tmp_path / "cut",
        CutoutRequest(pixels=SIDE),
        rate=10,
        parallel=4,
        base_url=service.server.url,
        patience=quick,
    )
    times = [request.started for request in service.server.log]
    assert times[-1] - times[0] > 0.45  # six requests, 0.1 s apart


def test_pace_spaces_requests_and_pauses() -> None:
    clock = [100.0]
    pace = Pace(4, lambda: clock[0])
    assert [pace.reserve() for _ in range(3)] == [0, 0.25, 0.5]
    clock[0] = 110
    assert pace.reserve() == 0
    pace.pause(5)
    assert [pace.reserve() for _ in range(2)] == [5, 5.25]


def test_pace_stops_at_once() -> None:
    stop = threading.Event()
    stop.set()
    pace = Pace(1)
    pace.pause(60)
    with pytest.raises(Interrupted):
        pace.wait(stop)


def test_silent_service_ends_the_run(service: Service, quick: Patience, tmp_path: Path) -> None:
    rows = [f"{n},{150 + n / 8},2,5" for n in range(40)]
    (tmp_path / "t.csv").write_text("objid,ra,dec,petroR90_r\n" + "\n".join(rows) + "\n")
    service.server.fallback = hang_up()
    with pytest.raises(
        DownloadError, match=r"the server cannot be reached, after 4 attempts, for 20 pictures in a row"
    ):
        fetch_cutouts(
            str(tmp_path / "t.csv"), tmp_path / "cut", CutoutRequest(pixels=SIDE), rate=FAST, base_url=service.server.url,
            patience=quick,
        )  # fmt: skip


def test_run_without_any_picture_is_an_error(table: str, service: Service, quick: Patience, tmp_path: Path) -> None:
    service.server.fallback = send(jpeg(blank=True))
    with pytest.raises(DownloadError, match="no galaxy has a picture; the first reason is: the picture is blank"):
        fetch_cutouts(
            table, tmp_path / "cut", CutoutRequest(pixels=SIDE), rate=FAST, base_url=service.server.url, patience=quick
        )
    assert len(failures(tmp_path / "cut")) == 6


def test_galaxies_that_cannot_be_asked_for_are_listed(service: Service, quick: Patience, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "objid,ra,dec,petroR90_r\na,150,2,5\nb,,2,5\nc,150,95,5\nd,150,2,\n../e,150,2,5\n.f,150,2,5\n"
    )
    folder = tmp_path / "cut"
    fetch_cutouts(
        str(tmp_path / "t.csv"),
        folder,
        CutoutRequest(pixels=SIDE),
        rate=FAST,
        base_url=service.server.url,
        patience=quick,
    )
    assert names(folder) == {"a"}
    assert failures(folder) == {
        "b": "the table has no position", "c": "the table has no position", "d": "the table has no R90",
        "../e": "the object id cannot be the name of a file", ".f": "the object id cannot be the name of a file",
    }  # fmt: skip
    assert len(service.server.log) == 1


def test_fixed_scale_needs_no_r90(service: Service, quick: Patience, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,alpha,delta\na,150,2\nb,151,2\n")
    columns = {"id": "name", "ra": "alpha", "dec": "delta"}
    arguments = {"columns": columns, "rate": FAST, "base_url": service.server.url, "patience": quick}
    with pytest.raises(ConfigError, match=r"has no R90, which sets the scale of a picture; give --scale ARCSEC"):
        fetch_cutouts(str(tmp_path / "t.csv"), tmp_path / "cut", CutoutRequest(pixels=SIDE), **arguments)  # type: ignore[arg-type]
    fetch_cutouts(str(tmp_path / "t.csv"), tmp_path / "cut", CutoutRequest(pixels=SIDE, scale=0.396), **arguments)  # type: ignore[arg-type]
    assert names(tmp_path / "cut") == {"a", "b"}


def test_table_without_positions_names_the_options(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("objid,x,y\na,150,2\n")
    with pytest.raises((ConfigError, CatalogError), match="name their columns with --ra NAME and --dec NAME"):
        fetch_cutouts(str(tmp_path / "t.csv"), tmp_path / "cut", CutoutRequest(pixels=SIDE, scale=1.0))


def test_folder_of_other_settings_is_rejected(table: str, service: Service, quick: Patience, tmp_path: Path) -> None:
    folder, url = tmp_path / "cut", service.server.url
    fetch_cutouts(table, folder, CutoutRequest(pixels=SIDE), rate=FAST, base_url=url, patience=quick)
    with pytest.raises(
        ConfigError, match=r"has pictures with scale None, and 0\.4 is asked for; choose another folder"
    ):
        fetch_cutouts(table, folder, CutoutRequest(pixels=SIDE, scale=0.4), rate=FAST, base_url=url, patience=quick)
    values = json.loads((folder / "cutouts.provenance.json").read_text())
    assert (values["survey"], values["release"], values["frame_r90"]) == ("sdss", "dr17", 8.48)
    assert "CC BY" in values["licence"]


def test_damaged_settings_of_a_folder_are_rejected(
    table: str, service: Service, quick: Patience, tmp_path: Path
) -> None:
    folder, request = tmp_path / "cut", CutoutRequest(pixels=SIDE)
    fetch_cutouts(table, folder, request, rate=FAST, base_url=service.server.url, patience=quick)
    settings = folder / "cutouts.provenance.json"
    settings.write_bytes(flipped(settings.read_bytes(), 50))
    with pytest.raises(DownloadError, match="is damaged, so nothing says how the pictures were cut"):
        fetch_cutouts(table, folder, request, rate=FAST, base_url=service.server.url, patience=quick)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"survey": "des"}, "there is no survey 'des'; give sdss or legacy"),
        ({"pixels": 32}, "sdss cuts pictures of 64 to 2048 px, not 32"),
        ({"survey": "legacy", "pixels": 4000}, "legacy cuts pictures of 8 to 3000 px, not 4000"),
        ({"scale": 0.0}, "a pixel of 0 arcsec is out of range"),
    ],
)
def test_request_that_the_service_would_change_is_rejected(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        CutoutRequest(**arguments)  # type: ignore[arg-type]
