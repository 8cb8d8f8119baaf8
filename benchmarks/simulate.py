"""Measure how many simulated galaxies a core renders per second at 424 and 96 px.

python benchmarks/simulate.py        (20 seconds; the target is 15 per second at 424 px)
"""

from __future__ import annotations

import statistics
import time

from raydistill.simulation.config import SimulatedSurvey
from raydistill.simulation.simulate import simulate_chunk

CHUNK, CHUNKS = 25, 7


def main() -> None:
    for size in (424, 96):
        survey = SimulatedSurvey(num_galaxies=CHUNK * (CHUNKS + 1), image_size=size)
        simulate_chunk(survey, 0, 0, CHUNK)  # warm up
        rates = []
        for chunk in range(1, CHUNKS + 1):
            start = time.process_time()  # CPU time, independent of other load
            simulate_chunk(survey, 0, chunk * CHUNK, (chunk + 1) * CHUNK)
            rates.append(CHUNK / (time.process_time() - start))
        print(
            f"{size} px: {statistics.median(rates):.1f} galaxies per second and core (median of {CHUNKS} chunks of {CHUNK})"
        )


if __name__ == "__main__":
    main()
