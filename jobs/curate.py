"""Curate a survey: choose galaxies, check and crop their pictures.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/curate.py configs/gz2_kaggle5.yaml output=s3://bucket/runs

The same as `raydistill curate`, on the cluster that the job runs on; any `key=value` may follow.
"""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    main(["curate", *sys.argv[1:]])
