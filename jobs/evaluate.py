"""Evaluate a distilled set and its baselines on test galaxies.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/evaluate.py my.yaml output=s3://BUCKET/runs

Runs `raydistill evaluate` on the job's cluster; add any `key=value`. Every node must be able to read the survey.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
