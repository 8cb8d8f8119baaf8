"""Measure whether variations of labelled galaxies help a network with few labels.

    RAYDISTILL_DATA=FOLDER python benchmarks/variation_gain.py CONFIG [key=value ...] [--labels 10 30 100] [--each 20]

A generator learns all training galaxies without labels, by their embeddings (`features` names whose).
`--each` samples for the embedding of a labelled galaxy are its variations, and have its class. With
about 10, 30 and 100 labels a class (the most confident galaxies), networks are trained with and
without them (`raydistill augment`, three seeds). Prints balanced accuracy and macro-F1 on test
galaxies, and the difference to the baseline that is best on validation galaxies.
"""

from __future__ import annotations

import argparse

from running import run_stage

from raydistill.stages.augment.artifact import AugmentationReport
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.text import interval, text_table

METHODS = "augment.methods=[flips, oversampling, real_synthetic]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--each", type=int, default=20)
    options, overrides = parser.parse_known_args()
    common = [options.config, *overrides]
    run_stage("run", [*common, "--to", "curate"])
    encoder = run_stage("pretrain", common)
    common += ["generate.conditions=[embedding]", f"features={encoder}"]
    run_stage("generate", common)
    rows = [("labels", "method", "balanced accuracy", "macro-F1", "difference of macro-F1", "to")]
    for number in options.labels:
        few = CuratedSet.open(str(run_stage("curate", [*common, f"curate.per_class={round(number / 0.7)}"])))
        ids = few.table("train", ["object_id"])["object_id"].to_pylist()
        wanted = f"sample.conditions={{kind: galaxies, object_ids: [{', '.join(ids)}]}}"
        samples = run_stage("sample", [*common, wanted, f"sample.num_images={options.each * len(ids)}"])
        words = [f"augment.synthetics={{variations: [{samples}]}}", f"augment.labelled={few.folder.uri}", METHODS]
        folder = run_stage("augment", [*common, *words, "augment.shots=[null]", "augment.seeds=3"])
        report = AugmentationReport.open(str(folder), verify=False)
        gains = {row["method"]: row for row in report.differences().to_dict("records")}
        for row in report.table().to_dict("records"):
            gain = gains.get(row["method"])
            cells = [f"{row['balanced_accuracy']:.3f}", f"{row['macro_f1']:.3f}", "", ""]
            if gain is not None:
                mean, low, high = (gain[f"macro_f1{end}"] for end in ("", "_low", "_high"))
                cells[2:] = interval(mean, low, high, "+"), gain["baseline"]
            rows.append((str(len(ids)), row["method"], *cells))
    print(text_table(f"{options.config}: variations of labelled galaxies", rows))


if __name__ == "__main__":
    main()
