r"""Align networks trained on one survey with unlabelled galaxies of another one.

    ray job submit --address http://HEAD:8265 --working-dir . -- \
        python jobs/adapt.py my.yaml other.yaml output=s3://BUCKET/runs

Runs `raydistill adapt` on the job's cluster; add any `key=value`. Both curated sets must exist in
their outputs.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
