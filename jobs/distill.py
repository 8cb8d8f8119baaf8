"""Distil a curated set by matching its experts' trajectories.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/distill.py configs/gz2_kaggle5.yaml output=s3://bucket/runs

The same as `raydistill distill`, on the cluster that the job runs on; any `key=value` may follow.
"""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    main(["distill", *sys.argv[1:]])
