"""Compare classifiers trained on real, synthetic and distilled galaxies.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/augment.py my.yaml output=s3://BUCKET/runs

Runs `raydistill augment` on the job's cluster; add any `key=value`. The sets must exist in the output.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
