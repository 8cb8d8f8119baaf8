r"""Train a detector on fields of synthetic galaxies, and test it on real frames.

    ray job submit --address http://HEAD:8265 --working-dir . -- \
        python jobs/detect.py my.yaml output=s3://BUCKET/runs

Runs `raydistill detect` on the job's cluster; add any `key=value`. The synthetic set and the frames
must exist in the output.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
