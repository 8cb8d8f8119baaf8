"""Curate a survey: choose galaxies, check and crop their images.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/curate.py my.yaml output=s3://BUCKET/runs

Runs `raydistill curate` on the job's cluster; add any `key=value`. Every node must be able to read the survey.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
