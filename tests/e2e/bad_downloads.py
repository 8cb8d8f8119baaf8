"""Rows of bad inputs about downloads; port 9 of this machine answers nothing."""

from __future__ import annotations

from tests.e2e.bad_inputs import Row

R = Row
NOWHERE = "--base-url http://127.0.0.1:9 --attempts 1"
POSITIONS = {"p.csv": "objid,ra,dec,petroR90_r\n1,150,2,5\n"}
# fmt: off
DOWNLOAD_ROWS = [
    R("a record that needs an account", "fetch kaggle", 2,
      "fetch kaggle: Kaggle gives its files to users with an account only; make an account, and run 'kaggle competitions "
      "download -c galaxy-zoo-the-galaxy-challenge' of its own tool (pip install kaggle)"),
    R("a server that cannot be reached", f"fetch hart16 {NOWHERE}", 3,
      "http://127.0.0.1:9/gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz: the server cannot be reached, after 1 attempt; see "
      "that the internet can be reached (HTTPS_PROXY names a proxy), or give a mirror with --base-url"),
    R("a mirror without http", "fetch hart16 --base-url mirror.org", 2,
      "--base-url: 'mirror.org' is not an address of a mirror; it begins with https://"),
    R("a mirror without https", "fetch hart16 --base-url http://mirror.org/data", 2,
      "--base-url: 'http://mirror.org/data' is not encrypted, so anyone on the way could change the files; give an address "
      "with https, or add --insecure"),
    R("cut-outs of a mirror without https", "fetch cutouts p.csv --base-url http://mirror.org", 2,
      "--base-url: 'http://mirror.org' is not encrypted, so anyone on the way could change the files; give an address with "
      "https, or add --insecure", POSITIONS),
    R("no parallel downloads", "fetch hart16 --parallel 0", 2,
      "--parallel: the number of parallel downloads is 0; give at least 1"),
    R("an object store as destination", "fetch hart16 --to s3://bucket/data", 2,
      "--to: 's3:/bucket/data' is not a folder of this machine; fetch into a local folder and copy it"),
    R("a file in place of the destination", "fetch hart16 --to votes.csv", 3,
      "votes.csv/gz2: a file stands where a folder should be made; choose another folder with --to"),
    R("cut-outs of a missing table", "fetch cutouts nope.csv", 3,
      "nope.csv: no such file; check the path, or fetch the catalogue first"),
    R("cut-outs of a table without positions", "fetch cutouts votes.csv", 2,
      "votes.csv: the table has no positions; name their columns with --ra NAME and --dec NAME"),
    R("cut-outs without R90 and scale", "fetch cutouts p.csv", 2,
      "p.csv: the table has no R90, which sets the scale of a picture; give --scale ARCSEC (SDSS's own is 0.396), or name "
      "the column with --r90 NAME",
      {"p.csv": "objid,ra,dec\n1,150,2\n"}),
    R("an unknown survey of cut-outs", "fetch cutouts p.csv --survey des", 2,
      "--survey: there is no survey 'des'; give sdss or legacy", POSITIONS),
    R("cut-outs of a size that the survey does not make", "fetch cutouts p.csv --pixels 5000", 2,
      "--pixels: sdss cuts pictures of 64 to 2048 px, not 5000; give another size", POSITIONS),
    R("a rate of zero", "fetch cutouts p.csv --rate 0", 2,
      "--rate: the rate is 0 requests a second; give a positive number", POSITIONS),
    R("cut-outs that all fail", f"fetch cutouts p.csv {NOWHERE}", 3,
      "cutouts/failures.csv: no galaxy has a picture; the first reason is: the server cannot be reached, after 1 attempt; "
      "the file lists all reasons", POSITIONS),
]
