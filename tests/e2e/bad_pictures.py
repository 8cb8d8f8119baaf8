"""Rows of bad inputs about pictures: ranges, stretches, zips and arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.e2e.bad_inputs import FOLDER, OWN, Row
from tests.e2e.spoiling_pictures import (
    array_without_its_data,
    bands_of_one_name,
    bands_on_a_bright_sky,
    column,
    faint_arrays,
    hdf5,
    npz,
    zipped,
)

R = Row
ARRAYS = "curate set.yaml survey.kind=arrays survey.root="
FITS = "{kind: fits, root: bands, channels: [0, 1, 2]}"
MOSAIC = '{kind: mosaic, root: bands, files: ["*.fits"], channels: [0, 1, 2], size: 9 arcsec}'
TABLE = "{kind: parquet, uri: v.parquet}"
IMAGES, LABELS = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)
NULLS = pa.array([[[0] * 8] * 8, None], pa.list_(pa.list_(pa.uint8(), 8), 8))
# fmt: off
PICTURE_ROWS = [
    R("black that is brighter than white", "curate own.yaml survey.images.value_range=[255,0]", 2,
      "command line, survey.images.value_range: the range is [255.0, 0.0]; give the display range [low, high]"),
    R("float pictures in no usual range", "curate own.yaml survey.images.pattern={id}.npy", 3,
      "pictures: pixels reach from 1.90002e-07 to 0.000999501, and no usual range fits them; give the display range: "
      "survey.images.value_range: [low, high]",
      prepare=faint_arrays),
    R("an unknown fit of pictures", "curate own.yaml survey.images.fit=stretch", 2,
      "command line, survey.images.fit: input should be 'square', 'crop' or 'pad', got 'stretch'; fix the value"),
    R("a stretch of zero", "curate c.yaml survey.images.stretch=0", 2,
      "command line, survey.images.stretch: stretch is 0.0; give a number above 0, or auto",
      {"c.yaml": OWN.replace(FOLDER, FITS)}),
    R("a stretch in another unit than the files", "curate c.yaml", 3,
      "bands: with stretch 0.35 and minimum 0.01 (unit: unknown, the files have no BUNIT), 100% of the pixels of a "
      "band are white; set survey.images.stretch=auto, or stretch and minimum in the unit of the files",
      {"c.yaml": OWN.replace(FOLDER, FITS)}, bands_on_a_bright_sky),
    R("bands of one name", "curate c.yaml", 3,
      "bands: none of the sampled files can be read (wrong-bands: the extensions 1, 2, 3 are all called SCI: give their numbers, "
      "or versions such as 'SCI,1'); set survey.images.channels to the extensions or planes for red, green and blue",
      {"c.yaml": OWN.replace(FOLDER, FITS.replace("[0, 1, 2]", "[SCI, SCI, SCI], stretch: auto"))}, bands_of_one_name),
    R("a cut-out without the unit of its size", "curate c.yaml survey.images.size=60", 2,
      "command line, survey.images.size: '60' is not a size on the sky; give a number and arcsec, arcmin, deg or R90, as "
      "'8.48 R90'",
      {"c.yaml": OWN.replace(FOLDER, MOSAIC)}),
    R("mosaics without the names of three bands", "curate c.yaml survey.images.channels=null", 2,
      "command line, survey.images.channels: one file has all bands, and nothing says which; give the extensions or planes "
      "for red, green and blue",
      {"c.yaml": OWN.replace(FOLDER, MOSAIC)}),
    R("mosaics for a table without positions", "curate c.yaml", 3,
      "survey.columns: no galaxy has a position, and cut-outs of mosaics need one; name the columns as ra and dec",
      {"c.yaml": OWN.replace(FOLDER, MOSAIC)}, bands_on_a_bright_sky),
    R("mosaics without world coordinates", "curate c.yaml", 3,
      "bands/0.fits: the header has no world coordinates (CTYPE1, CTYPE2); add them, as astrometry.net does, or leave the "
      "file out",
      {"c.yaml": OWN.replace(FOLDER, MOSAIC), "votes.csv": "id,class,ra,dec\n1,cat,10,20\n2,dog,10,21\n"},
      bands_on_a_bright_sky),
    R("mosaics with another name", "curate c.yaml survey.images.files=[coadd-*.fits]", 3,
      "bands: none of its 60 files has a name like 'coadd-*.fits'; check survey.images.files; one of them is 0.fits",
      {"c.yaml": OWN.replace(FOLDER, MOSAIC)}, bands_on_a_bright_sky),
    R("a file that is not a zip in place of the folder of pictures", "curate own.yaml survey.images.root=votes.csv", 3,
      "votes.csv: this is a file, and no zip; unpack it and give the folder"),
    R("a zip that is not there", "curate own.yaml survey.images.root=x.zip", 3,
      "x.zip: there is no such zip; check the path"),
    R("an encrypted zip", "curate own.yaml survey.images.root=x.zip", 3,
      "x.zip: the zip is encrypted; unpack it and give the folder",
      prepare=zipped(flags=1)),
    R("a zip bomb", "curate own.yaml survey.images.root=x.zip", 3,
      "x.zip: the zip unpacks to more than 200 times its size; check where it comes from",
      prepare=zipped(size=0xFFFFFF00)),
    R("a zip with a path outside of it", "curate own.yaml survey.images.root=x.zip", 3,
      "x.zip: the zip holds '../0.png', a path outside of it; check where it comes from",
      prepare=zipped({"../0.png": b"x"})),
    R("a zip of zips", "curate set.yaml survey.root=x.zip", 3,
      "x.zip: the zip holds zips and no pictures, such as 'train.zip'; unpack it and give the folder",
      prepare=zipped({"train.zip": b"x", "test.zip": b"x"})),
    R("a damaged zip", "curate set.yaml survey.root=x.zip", 3,
      "x.zip: cannot be read as a zip (File is not a zip file); check the path, or download it again",
      {"x.zip": "PK and no more"}),
    R("arrays without pictures", ARRAYS + "a.npz", 3,
      "a.npz: no array has the shape of pictures: a.npz/x (4 x 64), a.npz/y (4); set survey.image_key to its name",
      prepare=npz(x=np.zeros((4, 64)), y=LABELS)),
    R("arrays of several pictures", ARRAYS + "a.h5", 3,
      "a.h5: several arrays may be the pictures: a.h5/large (4 x 8 x 8 x 3), a.h5/small (4 x 8 x 8 x 3); set survey.image_key "
      "to its name, or store them as one array",
      prepare=hdf5(small=IMAGES, large=IMAGES, ans=LABELS)),
    R("an array per galaxy", ARRAYS + "a.h5", 3,
      "a.h5: 3 of its arrays are one picture each, such as a.h5/J2/image (8 x 8 x 3); store all pictures as one array N x H x W "
      "x C, and their labels as one of N: np.savez('all.npz', images=np.stack(pictures), labels=labels)",
      prepare=hdf5(**{f"J{n}/image": IMAGES[0] for n in range(3)})),
    R("arrays without labels", ARRAYS + "a.h5", 3,
      "a.h5: no array holds the 4 labels of 'a.h5/images': a.h5/ans (3), a.h5/images (4 x 8 x 8 x 3), a.h5/redshift (4); set "
      "survey.label_key to its name",
      prepare=hdf5(images=IMAGES, redshift=LABELS / 7, ans=LABELS[:3])),
    R("several labels per picture", ARRAYS + "a.npz", 3,
      "a.npz, 'labels': 4 x 14 labels, and each picture needs one; set survey.label_key to an array of one label per picture",
      prepare=npz(images=IMAGES, labels=np.ones((4, 14)))),
    R("arrays of Python objects", ARRAYS + "a.npz", 3,
      "a.npz, 'labels': labels are Python objects, which can run code; store integers or text",
      prepare=npz(images=IMAGES, labels=np.array([0, 1, "x", None], object))),
    R("an array that announces more than it holds", ARRAYS + "a.h5", 3,
      "a.h5: 'images' announces 1000000000 x 69 x 69 x 3 values and holds 0 bytes; download it again",
      prepare=array_without_its_data),
    R("a file without arrays", ARRAYS + "a.h5", 3,
      "a.h5: this is neither HDF5 nor .npz nor .npy; check survey.root",
      {"a.h5": "no arrays"}),
    R("URLs in place of pictures", "curate c.yaml", 3,
      "v.parquet: column 'image' has the type string and holds URLs (first: https://example.invalid/0.jpg); download the "
      "pictures into a folder first, and give that folder",
      {"c.yaml": OWN.replace(FOLDER, TABLE)}, column(pa.array(["https://example.invalid/0.jpg"]))),
    R("raw pixels in place of pictures", "curate c.yaml", 3,
      "v.parquet: column 'image' holds bytes, 3072 in each row, in no known picture format; raw pixels have no shape: store PNG "
      "files, or arrays H x W x 3",
      {"c.yaml": OWN.replace(FOLDER, TABLE)}, column(pa.array([bytes(3072)] * 60))),
    R("rows without a picture in lists of fixed size", "curate c.yaml", 3,
      "v.parquet: column 'image' has the type fixed_size_list<element: fixed_size_list<element: uint8>[8]>[8] and null in it, "
      "which Arrow cannot read; remove the rows without a picture, or store lists of variable size",
      {"c.yaml": OWN.replace(FOLDER, TABLE)}, column(NULLS)),
]
# fmt: on
