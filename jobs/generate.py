"""Train a generator of galaxy pictures on the curated set.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/generate.py my.yaml output=s3://BUCKET/runs

Runs `raydistill generate` on the job's cluster; add any `key=value`. The curated set must exist.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
