"""Predict the class of every picture of a survey with the trained experts.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/predict.py my.yaml s3://BUCKET/pictures output=s3://BUCKET/runs

Runs `raydistill predict` on the job's cluster; add any `key=value`. Every node must be able to read the survey.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
