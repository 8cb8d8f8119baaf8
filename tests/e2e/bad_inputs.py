"""The table of bad inputs: a command, its exit code and its error message.

Every command runs in a folder with `FILES` and a folder of pictures. The messages leave that folder
out and have "…" in place of digests. For `RUN_ROWS` the folder also holds a finished tiny run, up to
its distilled set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.galaxies.gz2 import GZ2
from tests.e2e.spoiling import (
    binary,
    both,
    bright_arrays,
    class_of_a_dead_link,
    class_of_other_files,
    curated_with,
    cut_cifar,
    damage_the_manifest,
    distilled_with,
    flat_test_folder,
    flip_a_byte,
    folder_of,
    folders_of_classes,
    generator_of_classes,
    generator_of_votes,
    labels_in_parquet,
    link,
    no_dog_to_train_on,
    no_picture_of_a_dog,
    no_pictures,
    one_band,
    pickled_cifar,
    pictures_in_parquet,
    small_disk,
    stop_in_the_middle,
    two_configurations,
)
from tests.e2e.spoiling_pictures import bands_in_pages

# Sixty labels for pictures of noise: a small survey of a user.
LABELS = "id,class\n" + "".join(f"{n},{'cat' if n % 2 else 'dog'}\n" for n in range(60))
PATHS = "id,file_loc,class\n" + "".join(f"{n},./{n}.png,{'cat' if n % 2 else 'dog'}\n" for n in range(60))
OWN = """\
name: own
survey: {kind: catalog, catalog: votes.csv, images: {kind: folder, root: pictures, pattern: "{id}.png"}}
curate: {classes: pets.yaml, image_size: 16, crop_fraction: 1.0}
tracking: {enabled: false}
"""
FOLDER = '{kind: folder, root: pictures, pattern: "{id}.png"}'
PARQUET = "{kind: parquet, uri: v.parquet, image_column: picture}"
SET = """\
name: set
survey: {kind: image-folder, root: set}
curate: {classes: all, image_size: 16, crop_fraction: 1.0}
tracking: {enabled: false}
"""
PETS = "name: pets\nclasses: [cat, dog]\n"
TINY = """\
name: tiny
survey: {kind: simulated, num_galaxies: 60, image_size: 32}
curate: {classes: two.yaml, image_size: 8, split: [0.5, 0.25, 0.25], min_picture_size: 16}
network: {kind: convnet, depth: 1, width: 4}
experts: {num_experts: 1, training: {epochs: 2, batch_size: 8}}
distill: {iterations: 2, student_steps: 2, validation_networks: 1, validation_epochs: 1}
evaluate: {num_networks: 1, full_data_networks: 0}
resources: {workers: 1, distill_cpus: 1, object_store_mb: 80}
tracking: {enabled: false}
"""
TWO = "name: two\nclasses: [{name: round, path: [smooth]}, {name: disk, path: [features_or_disk]}]\n"
DECALS = "id_str,smooth-or-featured-dr5_smooth,smooth-or-featured-dr5_featured-or-disk,smooth-or-featured-dr5_artifact\n1,4,2,3\n"
# A table of conditions: everything is smooth, and half of the volunteers say that it is edge-on.
FRACTIONS = {"t01_smooth_or_features_a01_smooth": 1, "t02_edgeon_a04_yes": 0.5, "t02_edgeon_a05_no": 0.5}
SMOOTH_AND_EDGE_ON = (
    ",".join(["dr7objid", *(f"{stem}_weighted_fraction" for stem in GZ2.answers)])
    + "\n"
    + ",".join(["587722981741691055", *(str(FRACTIONS.get(stem, 0)) for stem in GZ2.answers)])
    + "\n"
)
FILES = {"own.yaml": OWN, "pets.yaml": PETS, "votes.csv": LABELS, "tiny.yaml": TINY, "two.yaml": TWO, "set.yaml": SET}


@dataclass(frozen=True)
class Row:
    """One bad input.

    `command` holds the words after `raydistill`. `files` and `prepare` change the folder before it runs.
    """

    what: str
    command: str
    code: int
    sentence: str
    files: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    process: bool = False  # run the command in a process of its own


SIMULATED = "name: x\nsurvey: {kind: simulated}\n"
R = Row
# fmt: off
CONFIG_ROWS = [
    R("a missing config file", "run nope.yaml", 2,
      "nope.yaml: there is no such config file; shipped configs are: demo, …"),
    R("a folder as config", "run pictures", 2,
      "pictures: the config file cannot be read (Is a directory); give a YAML file"),
    R("a config that is not text", "run c.yaml", 2,
      "c.yaml: the config file cannot be read (it is not UTF-8 text); give a YAML file",
      prepare=binary("c.yaml")),
    R("a config that is not YAML", "run c.yaml", 2,
      "c.yaml: not valid YAML (line 2, column 1: expected ',' or ']', but got '<stream end>'); fix the file",
      {"c.yaml": "a: [1\n"}),
    R("a config that is a list", "run c.yaml", 2,
      "c.yaml: the config file is not a mapping of keys to values; see configs/demo.yaml",
      {"c.yaml": "- 1\n"}),
    R("an unknown key", "run c.yaml", 2,
      "c.yaml, outptu: there is no key 'outptu'; did you mean 'output'?",
      {"c.yaml": SIMULATED + "outptu: x\n"}),
    R("an unknown nested key", "run c.yaml", 2,
      "c.yaml, experts.training.epoch: there is no key 'epoch'; did you mean 'epochs'?",
      {"c.yaml": SIMULATED + "experts: {training: {epoch: 3}}\n"}),
    R("an override of an unknown key", "run tiny.yaml distill.itertions=3", 2,
      "command line, distill.itertions: there is no key 'itertions'; did you mean 'iterations'?"),
    R("a value of the wrong type", "run tiny.yaml distill.iterations=ten", 2,
      "command line, distill.iterations: input should be a valid integer, unable to parse string as an integer, got "
      "'ten'; fix the value"),
    R("augmentation that rotates aligned galaxies", "run tiny.yaml curate.align=true distill.augmentation.operations=[dihedral]", 2,
      "distill.augmentation: curate.align aligns the galaxies, and [dihedral] rotates them again; "
      "leave it out, or give operations: [mirror]"),
    R("a value out of range", "run tiny.yaml curate.crop_fraction=2", 2,
      "command line, curate: crop_fraction must lie in (0, 1], got 2.0; fix the value"),
    R("an unknown nuisance", "run tiny.yaml 'experts.decompose={nuisance: psf}'", 2,
      "command line, experts.decompose.nuisance: input should be 'petro_r90' or 'redshift', got 'psf'; fix the value"),
    R("a nuisance in a single bin", "run tiny.yaml experts.decompose.bins=1", 2,
      "command line, experts.decompose: bins must be at least 2, got 1; fix the value"),
    R("a negative penalty", "run tiny.yaml experts.decompose.penalty=-1", 2,
      "command line, experts.decompose.penalty: input should be greater than or equal to 0, got -1; fix the value"),
    R("an unknown nuisance of the groups", "run tiny.yaml 'evaluate.groups={columns: [size]}'", 2,
      "command line, evaluate.groups.columns.0: input should be 'petro_r90' or 'redshift', got 'size'; fix the value"),
    R("a nuisance of the groups named twice", "run tiny.yaml 'evaluate.groups={columns: [redshift, redshift]}'", 2,
      "command line, evaluate.groups: columns must name each nuisance once, got [redshift, redshift]; fix the value"),
    R("an unknown reason of the filter", "run tiny.yaml 'curate.filter={reasons: [blurred]}'", 2,
      "command line, curate.filter.reasons.0: input should be 'low-surface-brightness', 'artifact', 'truncated-galaxy', "
      "'off-centre' or 'blended', got 'blurred'; fix the value"),
    R("a reason named twice", "run tiny.yaml 'curate.filter={reasons: [artifact, artifact]}'", 2,
      "command line, curate.filter: reasons must each be named once, got artifact, artifact; fix the value"),
    R("no reason of the filter", "run tiny.yaml 'curate.filter={reasons: []}'", 2,
      "command line, curate.filter: reasons must name at least one; leave out curate.filter to reject none; fix the value"),
    R("a rate of false rejections of 0", "run tiny.yaml curate.filter.false_rejection_rate=0", 2,
      "command line, curate.filter: false_rejection_rate must lie in (0, 0.5), got 0; fix the value"),
    R("a misspelt key of the filter", "run tiny.yaml 'curate.filter={false_rejections: 0.1}'", 2,
      "command line, curate.filter.false_rejections: there is no key 'false_rejections'; did you mean 'false_rejection_rate'?"),
    R("whitening of large images", "run tiny.yaml curate.whitening=zca curate.image_size=128", 2,
      "command line, curate: whitening needs an image_size of at most 64, got 128; fix the value"),
    R("a simulated survey without galaxies", "run tiny.yaml survey.num_galaxies=0", 2,
      "command line, survey: num_galaxies is 0; give at least 1"),
    R("no CPUs for a worker", "run tiny.yaml resources.cpus=0", 2,
      "command line, resources.cpus: input should be greater than 0, got 0; fix the value"),
    R("an unknown answer to sample", "sample tiny.yaml sample.conditions.answers.smoth=1", 2,
      "sample.conditions.answers: Galaxy Zoo 2 has no answer 'smoth'; did you mean 'smooth'?"),
    R("a hunt with labels of a missing file", "hunt tiny.yaml hunt.labels=labels.csv", 3,
      "labels.csv: there is no such file of labels; check hunt.labels, and RAYDISTILL_DATA if the config uses it"),
    R("a hunt with labels without a column of filenames", "hunt tiny.yaml hunt.labels=votes.csv", 3,
      "votes.csv: it has no column 'filename'; its columns are: id, class; give a CSV with the columns filename and label"),
    R("a hunt with an unknown label", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: row 3 has the label 'perhaps'; use normal and anomaly, no and yes, or grades from 1 to 5",
      {"l.csv": "filename,label\na.jpg,normal\nb.jpg,perhaps\n"}),
    R("a hunt with labels of two kinds", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: row 3 has the label '5', and rows before it are of the kind yes-no; use one kind of labels in a file",
      {"l.csv": "filename,label\na.jpg,yes\nb.jpg,5\n"}),
    R("a hunt with labels that contradict each other", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: row 3 contradicts an earlier row of 'a.jpg'; keep one of them",
      {"l.csv": "filename,label\na.jpg,yes\na.jpg,no\n"}),
    R("a hunt with labels and an oracle", "hunt tiny.yaml hunt.labels=votes.csv 'hunt.oracle={positive: truth_class == 0}'", 2,
      "hunt.labels: the oracle labels by itself; leave it out, or set hunt.oracle=null"),
    R("a hunt with an unknown strategy", "hunt tiny.yaml 'hunt.oracle={positive: a > 0, strategies: [magic]}'", 2,
      "command line, hunt: oracle.strategies names 'magic'; known are ceiling, real, random, attributes, network, fixmatch; "
      "fix the value"),
    R("a hunt whose quotas are all 0", "hunt tiny.yaml 'hunt.quotas={high_score: 0, uncertain: 0, diverse: 0, random: 0}'", 2,
      "command line, hunt.quotas: at least one quota must be positive; fix the value"),
    R("an oracle without a table of the truth", "hunt own.yaml 'hunt.oracle={positive: a > 0}'", 2,
      "hunt.oracle.table: no table of the truth is given, and the survey is not the simulated one of this config; give a table "
      "with object ids and the columns of hunt.oracle.positive"),
    R("a hunt with synthetic galaxies that do not exist", "hunt tiny.yaml 'hunt.synthetic={a: {positive: nope, negative: nope}}'", 3,
      "nope: no finished synthetic set is here; correct hunt.synthetic.a.positive, or run 'raydistill sample CONFIG'"),
    R("an audit of fewer pictures than it needs", "audit tiny.yaml audit.num_pictures=10", 2,
      "command line, audit: num_pictures must be at least 20, got 10; fix the value"),
    R("an audit without a feature space", "audit tiny.yaml audit.spaces=[]", 2,
      "command line, audit: spaces must name at least one of scattering, morphology, experts; fix the value"),
    R("an augmentation with an unknown key", "augment tiny.yaml augment.shot=[10]", 2,
      "command line, augment.shot: there is no key 'shot'; did you mean 'shots'?"),
    R("an augmentation with one seed", "augment tiny.yaml augment.seeds=1", 2,
      "command line, augment: seeds must be at least 2, or no interval can be given, got 1; fix the value"),
    R("an augmentation with a rate that is no number", "augment tiny.yaml augment.lr_grid=[.nan]", 2,
      "command line, augment.lr_grid.0: input should be greater than 0, got nan; fix the value"),
    R("an augmentation without a baseline", "augment tiny.yaml augment.methods=[synthetic_only]", 2,
      "command line, augment: methods must name at least one of real, flips, oversampling, class_balanced, focal, mixup, to "
      "compare with; fix the value"),
    R("a filter without its classifier", "augment tiny.yaml augment.methods=[flips,real_synthetic]", 2,
      "command line, augment: min_recognised needs the classifier of oversampling, and methods does not name it; fix the "
      "value"),
    R("an adaptation without an interval", "adapt tiny.yaml other adapt.seeds=1", 2,
      "command line, adapt: seeds must be at least 2, because an interval needs two, got 1; fix the value"),
    R("an unknown key of an adaptation", "adapt tiny.yaml other adapt.strenghts=[1]", 2,
      "command line, adapt.strenghts: there is no key 'strenghts'; did you mean 'strengths'?"),
    R("a blur of an adaptation that is not a number", "adapt tiny.yaml other adapt.alignment.blur=.nan", 2,
      "command line, adapt.alignment: blur must be positive, got nan; fix the value"),
    R("a field that the detector cannot divide", "detect tiny.yaml detect.fields.side=100", 2,
      "command line, detect.fields: side must be a multiple of 16 in [64, 1024], got 100; fix the value"),
    R("galaxies of a field without a size", "detect tiny.yaml detect.fields.scales=[0,1]", 2,
      "command line, detect.fields: scales must be [lowest, highest] in (0, 4], got [0, 1]; fix the value"),
    R("an unknown key of a field", "detect tiny.yaml detect.fields.star=3", 2,
      "command line, detect.fields.star: there is no key 'star'; did you mean 'stars'?"),
    R("a detector of an odd width", "detect tiny.yaml detect.width=20", 2,
      "command line, detect: width must be a multiple of 32, got 20; fix the value"),
    R("a probability of recognised galaxies that is not a number", "detect tiny.yaml detect.min_recognised=.nan", 2,
      "command line, detect: min_recognised must lie in [0, 1], got nan; fix the value"),
    R("a fraction to sample outside [0, 1]", "sample tiny.yaml sample.conditions.answers.smooth=1.5", 2,
      "sample.conditions.answers: the fraction of 'smooth' is 1.5, outside [0, 1]; give a number in [0, 1]"),
    R("a fraction to sample that is not a number", "sample tiny.yaml sample.conditions.answers.smooth=.nan", 2,
      "sample.conditions.answers: the fraction of 'smooth' is not a number; give a number in [0, 1]"),
    R("fractions to sample that do not sum to 1", "sample tiny.yaml sample.conditions.answers.smooth=0.9", 2,
      "sample.conditions.answers: the fractions of the question 'smooth_or_features' sum to 0.9, not to 1 (within 0.01); "
      "give all its answers: smooth_or_features_smooth, smooth_or_features_features_or_disk, "
      "smooth_or_features_star_or_artifact"),
    R("answers to sample that contradict the tree",
      "sample tiny.yaml sample.conditions.answers.smooth=1 sample.conditions.answers.bar=1", 2,
      "sample.conditions.answers: the question 'bar' is only asked after 't01_smooth_or_features_a02_features_or_disk', "
      "whose fraction is 0; leave it out, or give that answer a fraction"),
    R("an unknown class to sample", "sample tiny.yaml sample.conditions.classes=[disc]", 2,
      "sample.conditions.classes: there is no class 'disc'; did you mean 'disk'?"),
    R("a number of samples per class without classes", "sample tiny.yaml sample.per_class=3 sample.conditions.kind=nothing", 2,
      "command line, sample: per_class is the number of images of each class; give num_images for other conditions; fix "
      "the value"),
    R("a filter of samples above 1", "sample tiny.yaml --filter 2", 2,
      "command line, sample.filter: min_probability must lie in (0, 1], got 2; fix the value"),
    R("an unknown source of samples", "sample tiny.yaml sample.source.kind=telescope", 2,
      "command line, sample.source.kind: there is no kind 'telescope'; known are: generator, injection, simulator"),
    R("an unknown model of an injection", "sample tiny.yaml sample.source.kind=injection sample.source.model.kind=dust", 2,
      "command line, sample.source.model.kind: there is no kind 'dust'; did you mean 'dust_lane'?"),
    R("a range of an injection upside down",
      "sample tiny.yaml sample.source.kind=injection 'sample.source.model={kind: dust_lane, depth: [2, 1]}'", 2,
      "command line, sample.source.model: depth must be [lowest, highest], got [2, 1]; fix the value"),
    R("conditions for a source without a generator",
      "sample tiny.yaml sample.source.kind=injection sample.conditions.kind=nothing", 2,
      "command line, sample: the key 'conditions' belongs to the source 'generator', and the source is 'injection'; fix the value"),
    R("a start of samples beyond noise", "sample tiny.yaml 'sample.source={kind: generator, strength: 1.5}'", 2,
      "command line, sample.source: strength must lie in (0, 1], got 1.5; fix the value"),
    R("a class to inject into that is unknown", "sample tiny.yaml sample.source.kind=injection sample.source.classes=[disc]", 2,
      "sample.source.classes: there is no class 'disc'; did you mean 'disk'?"),
    R("a parameter of the simulator that is unknown",
      "sample tiny.yaml sample.source.kind=simulator 'sample.source.parameters.dust=[0, 1]'", 2,
      "sample.source.parameters: there is no parameter 'dust'; did you mean 'dust_lane'?"),
    R("a table of conditions that is not there", "sample tiny.yaml sample.conditions.table=nope.csv", 3,
      "nope.csv: there is no such table; check sample.conditions.table, and RAYDISTILL_DATA if the config uses it"),
    R("an unknown kind", "run tiny.yaml distill.schedule.kind=self-adaptiv", 2,
      "command line, distill.schedule.kind: there is no kind 'self-adaptiv'; did you mean 'self-adaptive'?"),
    R("a missing key", "run c.yaml", 2,
      "c.yaml, survey: this key is missing; add it",
      {"c.yaml": "name: x\n"}),
    R("an override without '='", "run tiny.yaml distill.iterations", 2,
      "command line: 'distill.iterations' is not of the form key=value; for example distill.iterations=500"),
    R("an override that is not YAML", "run tiny.yaml curate.split=[0.5", 2,
      "command line: the value of 'curate.split=[0.5' is not valid YAML (line 1, column 5: expected ',' or ']', but got "
      "'<stream end>'); fix it, or put the value into quotes, and those into the shell's: 'key=\"{value}\"'"),
    R("an override without a key", "run tiny.yaml =5", 2,
      "command line: '=5' is not of the form key=value; for example distill.iterations=500"),
    R("a list that is too short", "run tiny.yaml curate.split=[0.5,0.5]", 2,
      "command line, curate.split: value number 3 of the list is missing; add it"),
    R("an environment variable that is not set", "run c.yaml", 2,
      "c.yaml, output: the environment variable RAYDISTILL_NOT_SET is not set; set it, or give output=... on the "
      "command line",
      {"c.yaml": SIMULATED + "output: ${oc.env:RAYDISTILL_NOT_SET}/x\n"}),
    R("a reference to a missing key", "run c.yaml", 2,
      "c.yaml: a value refers to something that is not there (Interpolation key 'outptu' not found); set it, or give "
      "the path itself",
      {"c.yaml": SIMULATED + "output: ${outptu}\n"}),
    R("too many poolings for the images", "run tiny.yaml network.depth=4", 2,
      "network: 4 poolings need at least 16 pixels, the images have 8; choose another network, or another curate.image_size"),
    R("too many poolings for another network", "run tiny.yaml 'evaluate.other_networks=[{kind: convnet, depth: 5}]'", 2,
      "evaluate.other_networks.0: 5 poolings need at least 32 pixels, the images have 8; choose another network, or another "
      "curate.image_size"),
    R("a target beyond the experts' last epoch", "run tiny.yaml distill.expert_epochs=3", 2,
      "distill.expert_epochs: the target lies 3 epochs ahead, but experts are trained for 2 only; lower it or raise "
      "experts.training.epochs"),
    R("a window after the experts' last epoch", "run tiny.yaml 'distill.schedule={kind: fixed, min_start_epoch: 2}'", 2,
      "distill.schedule.min_start_epoch: the first start epoch is 2 and its target 1 epochs ahead, but experts are trained for 2 only; "
      "lower it or raise experts.training.epochs"),
    R("experts without the epochs that matching needs", "run tiny.yaml experts.keep=ends", 2,
      "distill.trajectories: experts.keep=ends stores the first and the last epoch, and SGD's trajectories need every epoch; "
      "set it to straight, or experts.keep to all"),
    R("an initial value of labels that are not learned", "run tiny.yaml distill.label_init=votes", 2,
      "command line, distill: label_init: votes goes with labels: soft; labels: hard are not learned; fix the value"),
    R("a custom network that cannot be imported", "run tiny.yaml 'network={kind: custom, factory: \"no.such:thing\"}'", 2,
      "network: network.factory=no.such:thing cannot be imported (No module named 'no'); choose another network, or another "
      "curate.image_size"),
    R("an unknown method", "run tiny.yaml extends=methods/dtm", 2,
      "methods/dtm: there is no such config file; methods are: att, datm, ftd, mct, mtt, pad, stm, tesla"),
    R("a search without a space", "tune tiny.yaml", 2,
      "search.space: there is nothing to search; name keys of distill and their values, as configs/gz2_search.yaml does"),
    R("a search over an unknown key", "tune tiny.yaml 'search.space={student_stepz: {low: 1, high: 2}}'", 2,
      "search.space, distill.student_stepz: there is no key 'student_stepz'; did you mean 'student_steps'?"),
    R("a search over invalid values", "tune tiny.yaml 'search.space={ema: {low: 0.5, high: 1.5}}'", 2,
      "search.space, distill: ema must lie in [0, 1), got 1.5; fix the value"),
    R("a range whose low end is above its high end", "tune tiny.yaml 'search.space={student_steps: {low: 5, high: 2}}'", 2,
      "command line, search.space.student_steps: low must be below high, got 5 and 2; fix the value"),
    R("an unknown class tree", "run tiny.yaml curate.classes=gz2-8", 2,
      "curate.classes: there is no class tree 'gz2-8'; did you mean 'gz2-9'? Give your own classes as a .yaml file, or labels in "
      "brackets: [a, b]"),
    R("a missing class tree", "run tiny.yaml curate.classes=three.yaml", 2,
      "curate.classes, three.yaml: this class tree cannot be opened; correct the path"),
    R("a class tree with an unknown answer", "run tiny.yaml", 2,
      "curate.classes, two.yaml, class 'a': Galaxy Zoo 2 has no answer 'smoth'; did you mean 'smooth'?",
      {"two.yaml": "classes: [{name: a, path: [smoth]}]\n"}),
    R("a class tree that is not YAML", "run tiny.yaml", 2,
      "curate.classes, two.yaml: not valid YAML (line 2, column 1: expected the node content, but found '<stream "
      "end>'); fix the file",
      {"two.yaml": "classes: [\n"}),
    R("simulate with a survey that is not simulated", "simulate own.yaml", 2,
      "survey: this survey is not simulated; use a config with survey.kind=simulated, like configs/demo.yaml"),
    R("an output folder with a question mark", "run tiny.yaml output=a?b tracking.enabled=true", 2,
      "output: MLflow cannot keep its database in 'a?b/tiny', because of the '?'; rename the folder, or set "
      "tracking.enabled=false"),
    R("an unknown storage", "run tiny.yaml output=foo://bucket/x", 2,
      "foo://bucket/x: unknown storage 'foo://'; give a path, or a URI such as s3://bucket/folder"),
    R("scores without networks on all the data", "run tiny.yaml evaluate.scores=true", 2,
      "command line, evaluate: scores compare with networks trained on all the data, but full_data_networks is 0; fix the value"),
    R("an export of a missing distilled set", "export nope out", 3,
      "nope: there is no distilled set here; run 'raydistill distill CONFIG' first"),
]
SURVEY_ROWS = [
    R("too few pictures for the filter", "curate own.yaml curate.filter={}", 3,
      "curate.filter: the filter has 42 training pictures, and a false rejection rate of 0.01 needs 200; raise "
      "curate.filter.false_rejection_rate or curate.filter.pictures, or set curate.filter=null"),
    R("a missing vote table", "curate own.yaml survey.catalog=nope.csv", 3,
      "nope.csv: there is no such vote table; check survey.catalog, and RAYDISTILL_DATA if the config uses it"),
    R("a vote table in an unknown format", "curate own.yaml survey.catalog=own.yaml", 3,
      "own.yaml: unknown table format; give a .csv, .tsv, .parquet, .feather, .fits, .xml (VOTable) or .ecsv file, or a folder "
      "of such files"),
    R("a web page instead of a table", "curate own.yaml", 3,
      "votes.csv: this is a web page, not a table; download the table itself",
      {"votes.csv": "<!DOCTYPE html>\n<html>not found</html>\n"}),
    R("several tables in one file", "curate own.yaml", 3,
      "votes.csv: the file holds several tables; save each as a file of its own",
      {"votes.csv": "#Table1\nid,class\n1,cat\n\n#Table2\nid,class\n2,dog\n"}),
    R("a column that two differ from in case", "curate own.yaml survey.columns.label=CLASS", 3,
      "votes.csv: has the columns Class, class, and 'CLASS' is none of them; write the column with its upper and lower case",
      {"votes.csv": "id,Class,class\n1,cat,a\n"}),
    R("an empty file", "curate own.yaml", 3,
      "votes.csv: the file is empty; download or export it again",
      {"votes.csv": ""}),
    R("a table without rows", "curate own.yaml", 3,
      "votes.csv: the table has no rows; check how it was exported",
      {"votes.csv": "id,class\n"}),
    R("a damaged Parquet table", "curate own.yaml survey.catalog=v.parquet", 3,
      "v.parquet: cannot be read as a parquet table (Parquet magic bytes not found in footer. Either the file is "
      "corrupted or this is not a parquet file); download it again or convert it",
      {"v.parquet": "PAR1 and no more"}),
    R("columns of no known schema", "curate own.yaml", 3,
      "votes.csv: has no columns of a known catalog schema; set survey.dialect (docs/how-to/formats.md lists the "
      "schemas), or survey.columns.id and survey.columns.label; known are: id, smooth",
      {"votes.csv": "id,smooth\n1,0.5\n"}),
    R("votes of several campaigns of Galaxy Zoo", "curate own.yaml", 3,
      "votes.csv: holds votes that fit several campaigns of Galaxy Zoo (gz-decals-12, gz-decals-5); choose one, as "
      "survey.dialect=gz-decals-12",
      {"votes.csv": "id_str,bar-dr12_yes,bar-dr12_no,bar-dr5_strong,bar-dr5_weak,bar-dr5_no\n1,2,3,4,5,6\n"}),
    R("classes of another decision tree than the votes", "curate own.yaml curate.classes=gz2-9", 2,
      "curate.classes: the classes 'gz2-9' follow the tree of Galaxy Zoo 2, the votes that of GZ DECaLS; set it to "
      "gz-decals-9, gz-decals-10 or a YAML file with 'tree: gz-decals'",
      {"votes.csv": DECALS}),
    R("thresholds for a decision tree without them", "curate own.yaml curate.classes=gz-decals-9 curate.thresholds=n20", 2,
      "curate.classes, thresholds: there are no thresholds for the tree of GZ DECaLS; set it to null, and raise "
      "curate.min_confidence instead",
      {"votes.csv": DECALS}),
    R("classes that need a question without votes", "curate own.yaml curate.classes=gz-decals-9", 3,
      "votes.csv: the table has no votes on 'how-rounded', which the class 'smooth_round' needs; choose classes without "
      "this question with curate.classes",
      {"votes.csv": DECALS}),
    R("an unknown decision tree", "curate own.yaml curate.classes=two.yaml", 2,
      "curate.classes, two.yaml, tree: there is no decision tree 'gz-decal'; did you mean 'gz-decals'?",
      {"two.yaml": TWO.replace("name: two\n", "name: two\ntree: gz-decal\n")}),
    R("votes of a question beyond those of the table", "curate own.yaml", 3,
      "votes.csv: the answers have 9 votes in row 1, and 'smooth-or-featured-dr5_total-votes' is 4; correct the columns of "
      "'smooth-or-featured-dr5_smooth' and its question's other answers",
      {"votes.csv": DECALS.replace("2,3\n", "2,3,4\n").replace("artifact\n", "artifact,smooth-or-featured-dr5_total-votes\n")}),
    R("an unknown catalog schema", "curate own.yaml survey.dialect=kagle", 2,
      "survey.dialect: unknown catalog schema 'kagle'; did you mean 'kaggle'?"),
    R("a catalog schema that does not fit the table", "curate own.yaml survey.dialect=kaggle", 3,
      "votes.csv: has no column 'Class1.1'; correct survey.dialect (now kaggle) or survey.fractions (raw or "
      "debiased); did you mean 'class'?"),
    R("a missing column", "curate own.yaml survey.columns.label=clas", 3,
      "votes.csv: has no column 'clas'; correct survey.columns.label; did you mean 'class'?"),
    R("an unknown role of a column", "curate own.yaml survey.columns.labl=class", 2,
      "survey.columns: unknown key 'labl'; did you mean 'label'?"),
    R("ids that occur in two rows", "curate own.yaml", 3,
      "votes.csv: 1 ids in 'id' occur in several rows (first: 1); keep one row per object",
      {"votes.csv": "id,class\n1,cat\n1,dog\n2,cat\n"}),
    R("ids that were floating-point numbers", "curate own.yaml", 3,
      "votes.csv: the ids in 'id' were stored as floats and lost their last digits; export the table again "
      "with ids as integers or text",
      {"votes.csv": "id,class\n5.877e17,cat\n5.878e17,dog\n"}),
    R("fractions outside [0, 1]", "curate own.yaml", 3,
      "votes.csv: column 'confidence' is outside [0, 1] in 1 rows (row 2: 17); check that it holds fractions, not counts",
      {"votes.csv": "id,class,confidence\n1,cat,0.5\n2,dog,17\n"}),
    R("a confidence that is not a number", "curate own.yaml", 3,
      "votes.csv: column 'confidence' holds 'high' in row 2, which is not a number; correct it or leave it empty",
      {"votes.csv": "id,class,confidence\n1,cat,0.5\n2,dog,high\n"}),
    R("numbers in place of names of splits", "curate own.yaml survey.columns.split=fold", 3,
      "votes.csv: column 'fold' has values that name no split: 0, 1, 2; write train, validation or test, or "
      "remove the rows",
      {"votes.csv": "id,class,fold\n" + "".join(f"{n},{'cat' if n % 2 else 'dog'},{n % 3}\n" for n in range(60))}),
    R("official splits without a training galaxy", "curate own.yaml survey.columns.split=fold", 3,
      "votes.csv: column 'fold' leaves no training galaxy; name some of them train",
      {"votes.csv": "id,class,fold\n" + "".join(f"{n},{'cat' if n % 2 else 'dog'},test\n" for n in range(60))}),
    R("a label that is not a class", "curate own.yaml", 3,
      "votes.csv, label: the label 'dgo' is not a class of the tree 'pets'; did you mean 'dog'? Otherwise give a list of labels as "
      "curate.classes=[a, b]",
      {"votes.csv": LABELS + "99,dgo\n"}),
    R("a class without galaxies", "curate own.yaml curate.classes=[cat,dgo]", 3,
      "votes.csv, label: no galaxy has the label 'dgo'; did you mean 'dog'?"),
    R("images in a missing folder", "curate own.yaml survey.images.root=nope", 3,
      "nope: there is no such image folder; check survey.images.root, or download the images first"),
    R("images in an empty folder", "curate own.yaml", 3,
      "pictures: the image folder is empty; download the images first",
      prepare=no_pictures),
    R("images in an unknown storage", "curate own.yaml survey.images.root=foo://bucket", 3,
      "foo://bucket: unknown storage 'foo://'; give a path, or a URI such as s3://bucket/folder"),
    R("images in a Parquet file without that column", "curate c.yaml", 3,
      "v.parquet: has no column 'picture'; set survey.images.image_column; known are: id_str, image",
      {"c.yaml": OWN.replace(FOLDER, PARQUET)}, pictures_in_parquet),
    R("ids without pictures", "curate own.yaml 'survey.images.pattern=\"{id}.jpg\"'", 3,
      "votes.csv: none of 60 galaxies was selected (60 have a class, 0 of those a picture); check survey.images: galaxy 0 would be "
      "pictures/0.jpg"),
    R("a column of paths that is not used", "curate own.yaml 'survey.images.pattern=\"{id}.jpg\"'", 3,
      "votes.csv: none of 60 galaxies was selected (60 have a class, 0 of those a picture); check survey.images: galaxy 0 would be "
      "pictures/0.jpg; column 'file_loc' holds paths: set survey.images.path_column=file_loc",
      {"votes.csv": PATHS}),
    R("a path that leaves the folder of pictures", "curate own.yaml survey.images.path_column=file_loc", 3,
      "votes.csv: the path '../x.png' in row 61 of column 'file_loc' leaves the folder pictures; set survey.images.root to a folder "
      "above all pictures",
      {"votes.csv": PATHS + "60,../x.png,cat\n"}),
    R("addresses in place of paths", "curate own.yaml survey.images.path_column=file_loc", 3,
      "votes.csv: column 'file_loc' holds addresses of the web (first: https://x.org/60.png); download the pictures into a folder "
      "first, and give that folder",
      {"votes.csv": PATHS + "60,https://x.org/60.png,cat\n"}),
    R("a pattern without the id", "curate own.yaml survey.images.pattern=x.jpg", 2,
      "command line, survey.images.pattern: 'x.jpg' is not a file name pattern; write {id} in place of the object id"),
    R("balanced classes with an empty class", "curate own.yaml curate.balance=true", 3,
      "curate.balance: no galaxy with a confidence of at least 0 in: dog; lower min_confidence, choose fewer classes, "
      "or set balance to false",
      {"votes.csv": "id,class\n1,cat\n2,cat\n"}),
    R("a missing data set", "curate set.yaml", 3,
      "set: there is no such data set; check survey.root, and RAYDISTILL_DATA if the config uses it"),
    R("a data set without pictures", "curate set.yaml", 3,
      "set: there are no pictures in it; put pictures into root/CLASS, or into root/train/CLASS and root/test/CLASS",
      prepare=lambda root: (root / "set").mkdir()),
    R("a data set with an unknown split", "curate set.yaml", 3,
      "set: unknown split 'extra'; set survey.splits.extra to train, validation or test, or to null to leave it out",
      prepare=folders_of_classes("extra", "train")),
    R("a class that is not in the data set", "curate set.yaml curate.classes=[cat,dgo]", 2,
      "curate.classes: the data set has no class 'dgo'; did you mean 'dog'?",
      prepare=folders_of_classes("train", "test")),
    R("classes of galaxies for a data set", "curate set.yaml curate.classes=gz2-9", 2,
      "curate.classes: 'gz2-9' are classes of galaxies, and the survey is a data set with its own; set it to all, or to a list of class "
      "names"),
    R("pictures in a Parquet file without the label", "curate set.yaml survey.kind=image-parquet survey.root=v.parquet", 3,
      "v.parquet: has no column 'label'; set survey.label_column; did you mean 'lable'?",
      prepare=labels_in_parquet),
    R("CIFAR's files cut short", "curate set.yaml survey.kind=cifar100 survey.root=set", 3,
      "set/train.bin: the file ends within a record of 3074 bytes; download it again, and check survey.kind",
      prepare=cut_cifar),
    R("CIFAR's Python version read as the binary one", "curate set.yaml survey.kind=cifar100 survey.root=set", 3,
      "set: 'train' belongs to CIFAR's Python version; set survey.kind=torchvision and survey.dataset=CIFAR100",
      prepare=pickled_cifar),
    R("files that torchvision does not find", "curate set.yaml survey.kind=torchvision survey.dataset=SVHN survey.root=set", 3,
      "set: SVHN needs the files train_32x32.mat, test_32x32.mat in this folder; check survey.root, or set survey.download=true",
      prepare=pickled_cifar),
    R("CIFAR files that are not the official ones", "curate set.yaml survey.kind=torchvision survey.dataset=CIFAR100 survey.root=set", 3,
      "set: torchvision cannot read the files of CIFAR100 (an md5 sum is not the official one); download the official files again",
      prepare=pickled_cifar),
    R("names for labels that are numbers", "curate own.yaml curate.classes=[cat,dog]", 2,
      "curate.classes: the labels are numbers (0, 1, 2), and the classes are names; give each class its numbers, for example "
      "curate.classes={cat: 1, dog: 2}",
      {"votes.csv": "id,class\n" + "".join(f"{n},{n % 3}\n" for n in range(60))}),
    R("a label of two classes", "curate own.yaml 'curate.classes={cat: [1, 2], dog: 2}'", 2,
      "curate.classes: the label '2' is given twice; give each label to one class"),
    R("a class without a label", "curate own.yaml 'curate.classes={cat: 1, dog: null}'", 2,
      "command line, curate.classes: a class or a label is None; write {elliptical: 1, s0: 2, spiral: [3, 4]}, and quote words "
      "such as 'null'; fix the value"),
    R("a single class", "curate own.yaml curate.classes=[cat]", 3,
      "curate.classes: there is one class only, 'cat', and a network learns to tell classes apart; add galaxies of another class, or "
      "check curate.classes"),
    R("a class without a training galaxy", "curate own.yaml survey.columns.split=split", 3,
      "curate: no training galaxy in: dog (30 test); add galaxies of it to the training split, or leave it out of curate.classes",
      prepare=no_dog_to_train_on),
    R("a class without pictures", "curate own.yaml", 3,
      "curate: no training galaxy in: dog (none of its 30 galaxies has a picture); check survey.images: galaxy 0 would be pictures/0.png",
      prepare=no_picture_of_a_dog),
    R("a folder of a class without pictures", "curate set.yaml", 3,
      "set: the class folder 'train/cow' holds no picture that can be read (its files: .heic); convert them to PNG or JPEG, or remove "
      "the folder",
      prepare=class_of_other_files),
    R("a class that is a dead link", "curate set.yaml", 3,
      "set: the class folder 'train/cow' is a link that leads nowhere; repair or remove it",
      prepare=class_of_a_dead_link),
    R("a test folder without classes", "curate set.yaml", 3,
      "set: 'test/0.png' is not in the folder of a class; move it into root/test/CLASS, or leave the split out with "
      "survey.splits.test=null",
      prepare=flat_test_folder),
    R("several configurations of a data set", "curate set.yaml survey.kind=image-parquet survey.root=set", 3,
      "set: the data set has several configurations: data, tiny; choose one with survey.config_name=NAME, or all if they are parts "
      "of one data set",
      prepare=two_configurations),
    R("a vote threshold for a table without counts", "curate own.yaml curate.min_votes=5", 3,
      "votes.csv, min_votes: the catalogue has no total_votes; set min_votes to 0"),
]
RUN_ROWS = [
    R("FITS files without the bands", "curate c.yaml", 3,
      "bands/11.fits: no plane for each of the channels I, R, G; set survey.images.channels to the extensions or "
      "planes for red, green and blue",
      {"c.yaml": OWN.replace(FOLDER, "{kind: fits, root: bands}")}, one_band),
    R("a TIFF of several pages", "curate own.yaml survey.images.pattern={id}.tif", 3,
      "curate: no training galaxy in: cat, dog (rejected pictures: 60 several-frames; first: 0.tif (a TIFF of 3 pages)); store one "
      "picture per file, with its colours as H x W x 3; runs/own/curated-…/rejected.parquet lists them",
      prepare=bands_in_pages),
    R("curate before simulate", "curate tiny.yaml seed=1", 3,
      "runs/tiny/survey-…: there is no simulated survey here; run 'raydistill simulate CONFIG' first"),
    R("experts before curate", "experts tiny.yaml seed=1", 3,
      "runs/tiny/curated-…: there is no curated set here; run 'raydistill curate CONFIG' first"),
    R("distill before experts", "distill tiny.yaml experts.num_experts=2", 3,
      "runs/tiny/trajectories-…: there is no set of expert trajectories here; run 'raydistill experts CONFIG' first"),
    R("evaluate before distill", "evaluate tiny.yaml distill.iterations=3", 3,
      "runs/tiny/distilled-…: there is no distilled set here; run 'raydistill distill CONFIG' first"),
    R("predict before experts", "predict tiny.yaml pictures experts.num_experts=2", 3,
      "runs/tiny/trajectories-…: there is no set of expert trajectories here; run 'raydistill experts CONFIG' first"),
    R("more experts to predict than there are", "predict tiny.yaml pictures predict.experts=3", 3,
      "runs/tiny/trajectories-…: predict.experts asks for 3 experts, and the run has 1; lower it, or raise experts.num_experts"),
    R("a survey to predict that is not there", "predict tiny.yaml nowhere", 3,
      "nowhere: there is no such survey; give a config, a curated set or a folder of pictures"),
    R("a folder to predict without a picture", "predict tiny.yaml notes", 3,
      "notes: none of its 3 files is a picture; give a folder of files such as .png, .jpg, .jpeg",
      prepare=folder_of("notes", ".txt")),
    R("a folder to predict whose pictures are all damaged", "predict tiny.yaml damaged", 3,
      "damaged: none of its 3 pictures could be used: 3 corrupt; first: 0 (unknown picture format); check the pictures, or "
      "predict another survey",
      prepare=folder_of("damaged", ".jpg")),
    R("a folder to predict with FITS files of unknown stretch", "predict tiny.yaml fits", 3,
      "fits: it holds FITS files, and the experts' survey says neither their bands nor their stretch; give a config whose "
      "survey.images has kind: fits",
      prepare=folder_of("fits", ".fits")),
    R("a folder to predict of floats of unknown range", "predict tiny.yaml bright", 3,
      "bright: pixels reach from 0 to 5000, and no usual range fits them; give the values of black and white: "
      "survey.images.value_range: [low, high], in a config of this survey",
      prepare=bright_arrays),
    R("an artifact to predict without pictures", "predict tiny.yaml given", 3,
      "given: this is a set of expert trajectories, which has no pictures to predict; give a config, a curated set or a folder "
      "of pictures",
      prepare=link("trajectories")),
    R("sample before generate", "sample tiny.yaml", 3,
      "runs/tiny/generator-…: there is no generator here; run 'raydistill generate CONFIG' first"),
    R("inject before curate", "sample tiny.yaml sample.source.kind=injection curate.image_size=9", 3,
      "runs/tiny/curated-…: there is no curated set here; run 'raydistill curate CONFIG' first"),
    R("an example of an injection that is no training galaxy",
      "sample tiny.yaml sample.source.kind=injection sample.source.examples=[sim-000999]", 2,
      "sample.source.examples: the training split has no galaxy 'sim-000999'; give ids of the training split; a galaxy of "
      "another split must stay unseen"),
    R("answers to sample from a generator that knows classes alone", "sample tiny.yaml sample.conditions.answers.smooth=1", 2,
      "sample.conditions.answers: the generator was not trained with the condition 'votes' (its conditions: class); choose "
      "other conditions, or train one with generate.conditions",
      prepare=generator_of_classes),
    R("a table of conditions that contradicts the tree", "sample tiny.yaml sample.conditions.table=t.csv", 3,
      "t.csv: row 1: the question 'edgeon' is only asked after 't01_smooth_or_features_a02_features_or_disk', whose fraction "
      "is 0; leave that question empty, or give that answer a fraction",
      {"t.csv": SMOOTH_AND_EDGE_ON}, prepare=generator_of_votes),
    R("audit before sample", "audit tiny.yaml", 3,
      "runs/tiny/synthetic-…: there is no synthetic set here; run 'raydistill sample CONFIG' first"),
    R("an audit of a folder without a set", "audit tiny.yaml pictures", 3,
      "pictures: no finished set is here; give the folder of a synthetic, a distilled or another curated set"),
    R("an audit of the config's own curated set", "audit tiny.yaml given", 3,
      "given: this is the curated set that others are compared with; give the folder of a synthetic, a distilled or another "
      "curated set", prepare=link("curated")),
    R("an audit of experts", "audit tiny.yaml given", 3,
      "given: this is a set of expert trajectories, which cannot be audited; give the folder of a synthetic, a distilled or "
      "another curated set", prepare=link("trajectories")),
    R("an audit of a distilled set of another survey", "audit tiny.yaml given", 3,
      "given: its pictures were made from another curated set than runs/tiny/curated-…; give the config with which they were "
      "made",
      prepare=distilled_with(["round", "disk"], 8)),
    R("an audit of too few pictures", "audit tiny.yaml given", 3,
      "given: 2 distilled, 10 held-out and 38 training pictures give samples of 2 of the same class proportions, and an audit "
      "needs 20; give more pictures, or set audit.match_classes=false",
      prepare=link("distilled")),
    R("hunt before predict", "hunt tiny.yaml", 3,
      "runs/tiny/predictions-…: the survey has no predictions yet; run 'raydistill predict CONFIG CONFIG', or 'raydistill run "
      "CONFIG --to hunt'"),
    R("a hunt with synthetic galaxies that are experts", "hunt tiny.yaml 'hunt.synthetic={a: {positive: given, negative: given}}'", 3,
      "given: this is a set of expert trajectories, not a synthetic set; give the path of a synthetic set",
      prepare=link("trajectories")),
    R("augment before sample", "augment tiny.yaml", 3,
      "runs/tiny/synthetic-…: there is no synthetic set here; run 'raydistill sample CONFIG' first"),
    R("an augmentation with a path without a set", "augment tiny.yaml augment.synthetics.unet=[pictures]", 3,
      "pictures: no finished synthetic set is here; correct augment.synthetics.unet, or run 'raydistill sample CONFIG'"),
    R("an augmentation with experts as prototypes", "augment tiny.yaml augment.distilled=given", 3,
      "given: this is a set of expert trajectories, not a distilled set; give the path of a distilled set",
      prepare=link("trajectories")),
    R("an augmentation with prototypes of another survey",
      "augment tiny.yaml augment.distilled=given augment.methods=[flips,real_distilled]", 3,
      "given: its classes are cat, dog, the survey's are round, disk; give a set of the same classes",
      prepare=distilled_with(["cat", "dog"], 8)),
    R("an augmentation with prototypes that name no galaxies",
      "augment tiny.yaml augment.distilled=given augment.methods=[flips,real_distilled]", 3,
      "given: it does not name the curated set that it was made from; make it from this curated set, or from one with the "
      "same curate.split",
      prepare=distilled_with(["round", "disk"], 8)),
    R("a target of an adaptation that is not there", "adapt tiny.yaml nowhere", 3,
      "nowhere: no finished curated set is here; give the config of another survey, or the folder of its curated set"),
    R("a target whose curated set does not exist", "adapt tiny.yaml own.yaml", 3,
      "runs/own/curated-…: there is no curated set of the target here; run 'raydistill run own.yaml --to curate' first"),
    R("a target that is the source", "adapt tiny.yaml tiny.yaml", 3,
      "runs/tiny/curated-…: this is the curated set of the source itself; give the config of another survey, or the folder of "
      "its curated set"),
    R("a target that is a set of experts", "adapt tiny.yaml given", 3,
      "given: this is a set of expert trajectories, not a curated set; give the path of a curated set",
      prepare=link("trajectories")),
    R("a target with a class that the source lacks", "adapt tiny.yaml other", 2,
      "adapt.classes: the source has no class 'disc' of the target; did you mean 'disk'? Name its class of the source, or set "
      "disc: null",
      prepare=curated_with(["round", "disc"], 8)),
    R("a target with a single class of the source", "adapt tiny.yaml other adapt.classes.disc=null", 3,
      "other: its train and test galaxies share 1 classes with the source; correct adapt.classes; at least 2 are needed",
      prepare=curated_with(["round", "disc"], 8)),
    R("a target of another image size", "adapt tiny.yaml other", 3,
      "other: its images have 16 px, those of the source 8; give both surveys the same curate.image_size",
      prepare=curated_with(["round", "disk"], 16)),
    R("a distilled set of another survey to adapt", "adapt tiny.yaml other adapt.distilled=given", 3,
      "given: its images were made from another curated set than runs/tiny/curated-…; give a set that was made from the source",
      prepare=both(curated_with(["round", "disk"], 8), distilled_with(["round", "disk"], 8))),
    R("detect without whole frames", "detect tiny.yaml", 3,
      "runs/tiny/curated-…: there is no curated set of whole frames here; run 'raydistill curate CONFIG curate.crop_fraction=1 "
      "curate.image_size=128', or give detect.frames=PATH"),
    R("detect before sample", "detect tiny.yaml detect.frames=given", 3,
      "runs/tiny/synthetic-…: there is no synthetic set here; run 'raydistill sample CONFIG' first", prepare=link("curated")),
    R("a detector of a distilled set", "detect tiny.yaml given", 3,
      "given: this is a distilled set, not a synthetic set; give the path of a synthetic set", prepare=link("distilled")),
    R("frames that are experts", "detect tiny.yaml detect.frames=given", 3,
      "given: this is a set of expert trajectories, not a curated set; give the path of a curated set",
      prepare=link("trajectories")),
    R("an output that is a file", "simulate tiny.yaml output=votes.csv", 3,
      "votes.csv/tiny: a file stands where a folder should be made; choose another output=FOLDER"),
    R("classes without a path for a table of votes", "curate tiny.yaml curate.classes=pets.yaml", 2,
      "curate.classes, class 'cat': the class has no path in the decision tree, so votes cannot be assigned to "
      "it; give it a path, or use a catalogue with labels"),
    R("labels from votes for a survey without votes", "run own.yaml distill.labels=votes experts.targets=votes", 3,
      "runs/own/curated-…: its galaxies have labels and no votes, which experts.targets and distill.labels need; set "
      "experts.targets=hard and distill.labels=hard, or take a survey with votes"),
    R("experts of a set without classes", "run own.yaml curate.classes=unlabelled", 3,
      "runs/own/curated-…: its galaxies have no classes, because curate.classes is unlabelled; set curate.classes to classes "
      "of the survey"),
    R("a curated set whose stage was stopped", "experts tiny.yaml experts.num_experts=2", 3,
      "runs/tiny/curated-…: the curated set here was never finished; run 'raydistill curate CONFIG' again",
      prepare=stop_in_the_middle),
    R("a damaged manifest", "experts tiny.yaml experts.num_experts=2", 3,
      "runs/tiny/curated-…: manifest.json is damaged; remove the folder and run 'raydistill curate CONFIG' again",
      prepare=damage_the_manifest),
    R("a flipped byte in a curated file", "experts tiny.yaml experts.num_experts=2", 3,
      "runs/tiny/curated-…: 'data/split=train/label=0/part-0.parquet' is damaged: its digest is not the manifest's; "
      "remove the folder and run 'raydistill curate CONFIG' again",
      prepare=flip_a_byte("curated", "data/split=train/label=0/part-0.parquet")),
    R("a flipped byte in an expert's trajectory", "distill tiny.yaml distill.iterations=3", 3,
      "runs/tiny/trajectories-…: 'expert-0000.npy' is damaged: its digest is not the manifest's; "
      "remove the folder and run 'raydistill experts CONFIG' again",
      prepare=flip_a_byte("trajectories", "expert-0000.npy")),
    R("no artifact given as distilled", "evaluate tiny.yaml distilled=pictures", 3,
      "pictures: no finished distilled set is here; correct distilled=PATH"),
    R("an artifact of another kind given as distilled", "evaluate tiny.yaml distilled=given", 3,
      "given: this is a curated set, not a distilled set; give the path of a distilled set",
      prepare=link("curated")),
    R("an export of another kind of artifact", "export given out", 3,
      "given: this is a curated set, not a distilled set; give the path of a distilled set",
      prepare=link("curated")),
    R("an export into a folder with files", "export given pictures", 3,
      "pictures: the folder for the export is not empty; give a new folder",
      prepare=link("distilled")),
    R("a distilled set of other classes", "evaluate tiny.yaml distilled=given", 3,
      "given: its classes are cat, dog, the survey's are round, disk; set curate.classes to the classes it was "
      "distilled for",
      prepare=distilled_with(["cat", "dog"], 8)),
    R("a distilled set of another image size", "evaluate tiny.yaml distilled=given", 3,
      "given: its images have 4 px, the survey's have 8; set curate.image_size=4",
      prepare=distilled_with(["round", "disk"], 4)),
    R("a distilled set of aligned galaxies", "evaluate tiny.yaml distilled=given", 3,
      "given: its galaxies are aligned to their major axis, the survey's are not; set curate.align=true",
      prepare=distilled_with(["round", "disk"], 8, aligned=True)),
    R("more GPUs for an expert than a machine has", "experts tiny.yaml resources.gpus=4 experts.num_experts=2", 5,
      "resources: one worker needs 1 CPUs and 4 GPUs, no machine of the cluster has more than 2 and 0; lower "
      "resources.cpus or resources.gpus, use a larger cluster, or set resources.workers on one that can grow"),
    R("more GPUs for distilling than a machine has", "distill tiny.yaml resources.distill_gpus=4 distill.iterations=3", 5,
      "resources: one worker needs 1 CPUs and 4 GPUs, no machine of the cluster has more than 2 and 0; lower "
      "resources.distill_cpus or resources.distill_gpus, use a larger cluster, or set resources.workers on one that can grow"),
    R("experts that diverge", "experts tiny.yaml experts.training.lr=1e30", 4,
      "experts: 1 of 1 experts diverged 2 times (expert 0: the loss or the parameters are not finite in epoch 1); lower "
      "experts.training.lr (now 1e+30); the finished experts are kept"),
    R("a student that diverges", "distill tiny.yaml distill.student_lr=1e30", 4,
      "distill, iteration 0: the matching loss or its gradient is not finite (loss nan, gradient nan); lower "
      "distill.student_lr (now 1e+30) or distill.image_step.lr (now 0.03); the best images so far, of iteration 0, are in "
      "runs/tiny/distilled-…/partial/images.safetensors"),
    R("a full disk", "simulate tiny.yaml output=full", 3,
      "full/tiny/survey-…: the disk is full; free some space and run the same command again; it resumes",
      prepare=small_disk),
]
PROCESS_ROWS = [
    R("a Ray cluster that cannot be reached", "simulate tiny.yaml resources.address=127.0.0.1:1", 5,
      "Ray at 127.0.0.1:1: cannot be reached ([Errno 111] Connection refused); check resources.address and RAY_ADDRESS",
      process=True),
    R("a Ray Client address", "simulate tiny.yaml resources.address=ray://127.0.0.1:10001", 5,
      "Ray at ray://127.0.0.1:10001: Ray Client cannot stream results; give its HOST:6379, or use ray job submit",
      process=True),
]
# fmt: on
