"""Download public records and cut-outs of galaxies, without Ray.

records     the public records as data: files, sizes, checksums, licences, citations
http        sessions, retries and waiting
download    one file: resumed, verified, renamed when it is complete
kinds       recognition of a web page or another wrong file by its first bytes
unpacking   zip, tar and gzip archives: safe, resumed, with limits
provenance  `NAME.provenance.json` and the config of a fetched survey
runner      several records: files in parallel, then unpacking
cutouts     pictures by position from SDSS and the Legacy Surveys

The modules load requests and pyarrow when they are used, so that `raydistill fetch --help` is fast.
"""
