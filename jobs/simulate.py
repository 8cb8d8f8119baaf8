"""Render the simulated survey of a config.

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/simulate.py configs/demo.yaml output=s3://BUCKET/runs

Runs `raydistill simulate` on the job's cluster; add any `key=value`.
"""

from raydistill.cli import run_job

if __name__ == "__main__":
    run_job(__file__)
