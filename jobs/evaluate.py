"""Judge a distilled set and its baselines on test galaxies.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/evaluate.py configs/gz2_kaggle5.yaml output=s3://bucket/runs

The same as `raydistill evaluate`, on the cluster that the job runs on; any `key=value` may follow.
"""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
