"""Measure the prototypes of a distilled set beside real galaxies.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/analyse.py my.yaml output=s3://BUCKET/runs

Runs `raydistill analyse` on the job's cluster; add any `key=value`. The distilled set must exist in the output.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
