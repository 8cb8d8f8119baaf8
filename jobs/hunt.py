"""Rank a survey, and write the candidates of a round.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/hunt.py my.yaml output=s3://BUCKET/runs hunt.labels=s3://BUCKET/labels.csv

Runs `raydistill hunt` on the job's cluster; add any `key=value`. The predictions of the survey must exist.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
