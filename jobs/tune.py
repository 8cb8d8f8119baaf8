"""Search the recipe whose images teach best, on experts that exist.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/tune.py my.yaml output=s3://BUCKET/runs

The same as `raydistill tune`, on the cluster that the job runs on; any `key=value` may follow.
The survey lies where every node can read it.
"""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])
