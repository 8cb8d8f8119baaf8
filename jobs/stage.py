"""Run one stage of a config; the artifacts that it reads must exist.

    ray job submit --address http://HEAD:8265 --working-dir . -- \\
        python jobs/stage.py distill my.yaml output=s3://BUCKET/runs

Runs `raydistill distill` on the job's cluster, or the command of any other stage; add any `key=value`.
Every node must be able to read the survey.
"""

from raydistill.cli import main

if __name__ == "__main__":
    main()
