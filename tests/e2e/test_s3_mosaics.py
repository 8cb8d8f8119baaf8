"""Cut galaxies out of mosaics in an S3-compatible bucket; count the bytes read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import s3fs
from astropy.io import fits

from raydistill.artifacts.manifest import open_manifest
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.storage import Folder
from raydistill.storage.s3 import PatientS3
from tests.e2e import tools
from tests.e2e.bucket import s3_server
from tests.mosaics import Spiral, make_wcs, write_bands, write_tile

RA, DEC, SIDE, PIXELS = 150.0, 20.0, 1500, 40
CHANNELS = {"0.fits": (0, 0, 0), "1.fits.fz": (1, 1, 1)}
CONFIG = """\
name: mosaics
survey:
  kind: catalog
  catalog: table.csv
  images: {kind: mosaic, root: tiles, files: ["i/*.fits", "r/*.fits", "g/*.fits"], size: 17 arcsec, stretch: auto}
curate: {classes: [clockwise, anticlockwise], image_size: 16, crop_fraction: 1.0}
resources: {workers: 1, object_store_mb: 80}
tracking: {enabled: false}
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_curated_set_of_a_bucket_is_that_of_the_disk(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spirals = [Spiral(RA + n % 5 / 200, DEC + n // 5 / 200, (-1) ** n, 2.0) for n in range(30)]
    for tile in range(2):
        wcs = make_wcs(RA + 0.01, DEC + 0.005 + tile / 60, 220, 220)
        write_bands(tmp_path / "tiles", f"{tile}.fits", spirals, wcs, 220, 220)
    rows = [f"g{n},{('clockwise', 'anticlockwise')[n % 2]},{s.ra},{s.dec}" for n, s in enumerate(spirals)]
    (tmp_path / "table.csv").write_text("\n".join(["id,label,ra,dec", *rows]))
    (tmp_path / "c.yaml").write_text(CONFIG)
    contents, there = [], "s3://bucket/survey"
    catalog = f"survey.catalog={tmp_path / 'table.csv'}"
    with s3_server(tmp_path / "s3", monkeypatch) as (client, _):
        Folder(there).put_tree(tmp_path / "tiles")
        for number, root in enumerate((str(tmp_path / "tiles"), there)):
            output = tmp_path / str(number)
            words = ("curate", str(tmp_path / "c.yaml"), f"output={output}", f"survey.images.root={root}", catalog)
            command = tools.typed(output, {**env, **client}, *words)
            assert command.wait() == 0, command.log[-4000:]
            contents.append(open_manifest(Folder(command.answer), "curated").content)
    assert contents[0] == contents[1]


@pytest.mark.long
def test_only_the_bytes_of_cutouts_are_read_from_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare pictures with those on disk; a refused request ends with one sentence."""
    write_tile(tmp_path / "tiles" / "0.fits", [], make_wcs(RA, DEC, SIDE, SIDE), SIDE, SIDE)
    data, header = fits.getdata(tmp_path / "tiles" / "0.fits", header=True)
    fits.CompImageHDU(data, header).writeto(tmp_path / "tiles" / "1.fits.fz")
    positions = np.array([(RA, DEC + offset / 3600) for offset in (-300, 0, 300)])
    read = []
    fetch = s3fs.S3File._fetch_range

    def counted(file: s3fs.S3File, start: int, end: int) -> bytes:
        content: bytes = fetch(file, start, end)
        read.append(len(content))
        return content

    with s3_server(tmp_path / "s3", monkeypatch) as (_, gate):
        Folder("s3://bucket/survey").put_tree(tmp_path / "tiles")
        monkeypatch.setattr(s3fs.S3File, "_fetch_range", counted)
        for name, channels in CHANNELS.items():
            pictures = {}
            for root in (str(tmp_path / "tiles"), "s3://bucket/survey"):
                images = MosaicImages(root, (name,), f"{PIXELS / 2} arcsec", channels=channels)
                result = images.find(*positions.T, np.full(3, np.nan))
                assert result.reasons == [""] * 3
                pictures[root] = [images.read(f"{root}/{source}") for source in result.files]
            assert pictures[str(tmp_path / "tiles")] == pictures["s3://bucket/survey"]
            if name == "0.fits":
                assert 0 < sum(read) < 0.25 * data.nbytes, "the whole file was read"
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        PatientS3.clear_instance_cache()
        gate.shut()
        with pytest.raises(CatalogError, match=r"s3://bucket/survey.*run the (same )?command again"):
            images.find(*positions.T, np.full(3, np.nan))
