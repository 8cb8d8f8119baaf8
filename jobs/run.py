"""Run all stages of a config, skipping those whose artifact exists.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/run.py my.yaml output=s3://BUCKET/runs

Runs `raydistill run` on the job's cluster; add any `key=value`. Every node must be able to read the survey.
"""

import sys

from raydistill.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()
