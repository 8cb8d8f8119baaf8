"""Sample synthetic galaxies from the trained generator.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/sample.py my.yaml output=s3://BUCKET/runs

Runs `raydistill sample` on the job's cluster; add any `key=value`. The generator must exist in the output.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
