"""Download public records and cut-outs of galaxies, without Ray.

records          the public records as data: files, addresses, checksums, licences, citations
zenodo           sizes, checksums and licence from Zenodo's API
http             sessions, time limits, retries and waiting
kinds            recognition of a web page or another wrong file by its first bytes
download         one file: resumed, verified, renamed when it is complete
threads          jobs in daemon threads that stop together
unpacking        zip, tar and gzip archives: safe, resumed, with limits
provenance       `NAME.provenance.json`, and the config that reads a record
runner           several records: files in parallel, then unpacking
pace             a common pace of requests over several threads
cutout_pictures  recognition of answers that are not a picture of a galaxy
cutouts          pictures by position from SDSS and the Legacy Surveys

The modules load requests and pyarrow when they are used, so that `raydistill fetch --help` is fast.
"""
