"""Paint the simulated survey of a config.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/simulate.py configs/demo.yaml output=s3://BUCKET/runs

The same as `raydistill simulate`, on the cluster that the job runs on; any `key=value` may follow.
"""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
