"""List the public records that `raydistill fetch` downloads.

Each address, size and checksum was found in a public source, which a comment names. A record on
Zenodo has a number: sizes, checksums and the licence are read from Zenodo again when it is fetched,
but a file must always have the checksum that is given here. Where no checksum is published, the
archive's own checksums are verified while it is unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from raydistill.errors import ConfigError, nearest


@dataclass(frozen=True)
class RemoteFile:
    """One file of a record.

    Parameters
    ----------
    name
        Name of the local file.
    url
        Address of the file.
    most
        Most bytes that the file may have. No size is built in; Zenodo publishes the exact one.
    checksum
        "md5:…" or "sha256:…" in lower case, or "" if none is published. The file must have it.
    unpack
        "pictures": the pictures of an archive go into the folder `into`, without subfolders.
        "text": the text files of an archive go beside it. "gzip": one compressed file, which gets
        the name `into`. None: it stays as it is.
    into
        Folder or file that unpacking writes.
    """

    name: str
    url: str
    most: int
    checksum: str = ""
    unpack: Literal["pictures", "text", "gzip"] | None = None
    into: str = ""


@dataclass(frozen=True)
class Record:
    """Files that were published together.

    Parameters
    ----------
    name
        Name on the command line.
    title
        One line about the content.
    folder
        Folder below the destination. Records that are used together share one.
    size
        Rounded size of the download, for the help; "" if none is published.
    licence, citation
        Both go into the provenance and into the config of the survey.
    homepage
        Page that describes the record.
    hosts
        Hosts to which the servers of its files may redirect, beside their own ones.
    zenodo
        Number of the record on Zenodo, or "".
    survey
        Keys of `survey` in a config that reads the record; `{folder}` is its folder. Empty: no
        config can read it as it is.
    extends
        Shipped config that this one extends.
    needs
        Another record with the pictures of this table. Its licence is added to the config.
    """

    name: str
    title: str
    folder: str
    files: tuple[RemoteFile, ...]
    size: str
    licence: str
    citation: str
    homepage: str
    hosts: tuple[str, ...] = ()
    zenodo: str = ""
    survey: Mapping[str, Any] = field(default_factory=dict)
    extends: str = "own_survey"
    needs: str = ""


GB = 1_000_000_000
ZENODO_HOSTS = ("zenodo.org", "www.zenodo.org")
WILLETT = "Willett et al. 2013, MNRAS 435, 2835"
HART = "Hart et al. 2016, MNRAS 461, 3663"
SDSS_LICENCE = "SDSS imagery: CC BY, credit the Sloan Digital Sky Survey (sdss.org/collaboration/image-use-policy)"
VOTES_LICENCE = "Galaxy Zoo 2 votes: no licence is stated; cite the papers (data.galaxyzoo.org)"
GZ2_PICTURES: Mapping[str, Any] = {
    "kind": "folder", "root": "{folder}/images", "pattern": "{id}.jpg",
    "mapping": "{folder}/gz2_filename_mapping.csv",
}  # fmt: skip

GZ2 = Record(
    name="gz2",
    title="Galaxy Zoo 2: 243,434 SDSS pictures of 424 px, with the table of their file names",
    folder="gz2",
    # The checksum of the pictures is in galaxy-datasets (mwalmsley/galaxy-datasets, gz2.py). That of the table is
    # in a public downloader that names the same addresses.
    files=(
        RemoteFile(
            "images_gz2.zip",
            "https://zenodo.org/records/3565489/files/images_gz2.zip",
            most=6 * GB,
            checksum="md5:bc647032d31e50c798770cf4430525c7",
            unpack="pictures",
            into="images",
        ),
        RemoteFile(
            "gz2_filename_mapping.csv",
            "https://zenodo.org/records/3565489/files/gz2_filename_mapping.csv",
            most=1 * GB,
            checksum="md5:7e28465e6dfbf96c0d828c595a5bbd80",
        ),
    ),
    size="3.4 GB",
    licence="CC BY 4.0",  # as users of the record state it; Zenodo's API is asked again
    citation=f"{WILLETT}; doi:10.5281/zenodo.3565489",  # as the README of the record asks
    homepage="https://zenodo.org/records/3565489",
    hosts=ZENODO_HOSTS,
    zenodo="3565489",
)

HART16 = Record(
    name="hart16",
    title="Galaxy Zoo 2: votes of 239,695 galaxies with the debiasing of Hart et al. 2016",
    folder="gz2",
    # Addresses of hart16 and table5 are those of data.galaxyzoo.org, "Full Catalog", Tables 1 and 5. No checksums
    # are published there.
    files=(
        RemoteFile(
            "gz2_hart16.csv.gz",
            "https://gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz",
            most=1 * GB,
            unpack="gzip",
            into="gz2_hart16.csv",
        ),
    ),
    size="",
    licence=VOTES_LICENCE,
    citation=f"{WILLETT}; {HART}",
    homepage="https://data.galaxyzoo.org",
    hosts=("gz2hart.s3.us-east-1.amazonaws.com",),  # Amazon may redirect to the region of a bucket
    survey={
        "kind": "catalog",
        "catalog": "{folder}/gz2_hart16.csv",
        "dialect": "hart16",
        "images": GZ2_PICTURES,
        "frame_r90": 8.48,
    },
    needs="gz2",
)

TABLE5 = Record(
    name="table5",
    title="Galaxy Zoo 2: votes of 243,500 galaxies with spectra, Table 5 of Willett et al. 2013",
    folder="gz2",
    files=(
        RemoteFile(
            "zoo2MainSpecz.csv.gz",
            "https://zooniverse-data.s3.amazonaws.com/galaxy-zoo-2/zoo2MainSpecz.csv.gz",
            most=1 * GB,
            unpack="gzip",
            into="zoo2MainSpecz.csv",
        ),
    ),
    size="",
    licence=VOTES_LICENCE,
    citation=WILLETT,
    homepage="https://data.galaxyzoo.org",
    hosts=("zooniverse-data.s3.us-east-1.amazonaws.com",),
    survey={
        "kind": "catalog",
        "catalog": "{folder}/zoo2MainSpecz.csv",
        "dialect": "willett",
        "images": GZ2_PICTURES,
        "frame_r90": 8.48,
    },
    needs="gz2",
)

EFIGI = Record(
    name="efigi",
    title="EFIGI: 4,458 nearby galaxies, SDSS colour pictures of 255 px and 16 attributes",
    folder="efigi",
    # Addresses as in public downloaders of EFIGI 1.6; the attributes are in efigi-1.6/EFIGI_attributes.txt.
    files=(
        RemoteFile(
            "efigi_png_gri-1.6.tgz",
            "https://www.astromatic.net/download/efigi/efigi_png_gri-1.6.tgz",
            most=3 * GB,
            unpack="pictures",
            into="images",
        ),
        RemoteFile(
            "efigi_tables-1.6.2.tgz",
            "https://www.astromatic.net/download/efigi/efigi_tables-1.6.2.tgz",
            most=1 * GB,
            unpack="text",
            into="tables",
        ),
    ),
    size="",
    licence=f"EFIGI: no licence is stated; {SDSS_LICENCE}",
    citation="Baillard et al. 2011, A&A 532, A74",
    homepage="https://www.astromatic.net/projects/efigi",
    hosts=("astromatic.net",),
)

GALAXY10 = Record(
    name="galaxy10",
    title="Galaxy10 DECaLS: 17,736 pictures of 256 px in ten classes (HDF5)",
    folder="galaxy10",
    # Checksum and size as in astroNN's documentation; Zenodo has the same file.
    files=(
        RemoteFile(
            "Galaxy10_DECals.h5",
            "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5",
            most=4 * GB,
            checksum="sha256:19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571",
        ),
    ),
    size="2.5 GB",
    licence="DESI Legacy Imaging Surveys; Galaxy Zoo votes",
    citation="Leung & Bovy 2019, MNRAS 483, 3255; Walmsley et al. 2022, MNRAS 509, 3966; Dey et al. 2019, AJ 157, 168",
    homepage="https://zenodo.org/records/10845026",
    hosts=ZENODO_HOSTS,
    zenodo="10845026",
    survey={"kind": "arrays", "root": "{folder}/Galaxy10_DECals.h5"},
    extends="own_images",
)

RECORDS: Mapping[str, Record] = {record.name: record for record in (GZ2, HART16, TABLE5, EFIGI, GALAXY10)}


def hosts_of(record: Record) -> frozenset[str]:
    """Return the hosts that may serve the files of a record."""
    return frozenset({urlsplit(file.url).netloc for file in record.files}.union(record.hosts))


KAGGLE = "kaggle competitions download -c galaxy-zoo-the-galaxy-challenge"


def find_record(name: str) -> Record:
    """Return the record of a name.

    Raises
    ------
    ConfigError
        For an unknown name, with the nearest known one, and for Kaggle's data, which need an account.
    """
    if name == "kaggle":
        fix = f"make an account, and run '{KAGGLE}' of its own tool (pip install kaggle)"
        raise ConfigError("Kaggle gives its files to users with an account only", "fetch kaggle", fix)
    if name not in RECORDS:
        raise ConfigError(f"there is no record '{name}'", "fetch", nearest(name, [*RECORDS, "kaggle"]))
    return RECORDS[name]
