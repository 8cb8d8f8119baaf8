"""The table of bad inputs: a command, its exit code and its error message.

Every command runs in a folder with `FILES` and a folder of pictures. The messages leave that folder
out and have "…" in place of digests. For the rows of a run the folder also holds a finished tiny one, up to
its distilled set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.spoiling import (
    binary,
    bright_arrays,
    damage_the_manifest,
    distilled_with,
    flip_a_byte,
    folder_of,
    link,
    link_to_itself,
    one_band,
    small_disk,
    stop_in_the_middle,
)
from tests.e2e.spoiling_pictures import bands_in_pages

# Sixty labels for pictures of noise: a small survey of a user.
LABELS = "id,class\n" + "".join(f"{n},{'cat' if n % 2 else 'dog'}\n" for n in range(60))
OWN = """\
name: own
survey: {kind: catalog, catalog: votes.csv, images: {kind: folder, root: pictures, pattern: "{id}.png"}}
curate: {classes: pets.yaml, image_size: 16, crop_fraction: 1.0}
tracking: {enabled: false}
"""
FOLDER = '{kind: folder, root: pictures, pattern: "{id}.png"}'
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
FILES = {"own.yaml": OWN, "pets.yaml": PETS, "votes.csv": LABELS, "tiny.yaml": TINY, "two.yaml": TWO, "set.yaml": SET}


@dataclass(frozen=True)
class Row:
    """One bad input.

    `command` holds the words after `raydistill`. `files` and `prepare` change the folder before it runs,
    `env` the environment. `shell` is run before the command, in a mount namespace of its own.
    """

    what: str
    command: str
    code: int
    sentence: str
    files: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    process: bool = False  # run the command in a process of its own
    env: dict[str, str] = field(default_factory=dict)
    shell: str = ""
    long: bool = False  # of the same check as others; `make test-all` alone runs it


SIMULATED = "name: x\nsurvey: {kind: simulated}\n"
R = Row
# fmt: off
CONFIG_ROWS = [
    R("a JSON plan without a dry run", "run demo --json", 2, "--json: the option is for a dry run; add --dry-run"),
    R("an unknown shipped config", "configs --show demos", 2,
      "--show: there is no shipped config 'demos'; did you mean 'demo'?"),
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
    R("an average over rotations of aligned galaxies", "run tiny.yaml curate.align=true distill.average_over=dihedral", 2,
      "distill.average_over: curate.align aligns the galaxies, and dihedral rotates them again; set it to mirror or none"),
    R("a value out of range", "run tiny.yaml curate.crop_fraction=2", 2,
      "command line, curate: crop_fraction must lie in (0, 1], got 2.0; fix the value"),
    R("an unknown nuisance", "run tiny.yaml 'experts.decompose={nuisance: psf}'", 2,
      "command line, experts.decompose.nuisance: input should be 'petro_r90' or 'redshift', got 'psf'; fix the value"),
    R("a nuisance in a single bin", "run tiny.yaml experts.decompose.bins=1", 2,
      "command line, experts.decompose: bins must be at least 2, got 1; fix the value"),
    R("a negative penalty", "run tiny.yaml experts.decompose.penalty=-1", 2,
      "command line, experts.decompose.penalty: input should be greater than or equal to 0, got -1; fix the value"),
    R("counts of votes with a nuisance head", "run tiny.yaml experts.targets=counts 'experts.decompose={}'", 2,
      "command line, experts: decompose needs targets hard or votes, got counts; fix the value"),
    R("counts of votes for classes without paths", "run tiny.yaml experts.targets=counts curate.classes=[a,b]", 2,
      "curate.classes, class 'a': the class has no path in the decision tree, so votes cannot be assigned to it; "
      "give it a path, or use a catalogue with labels"),
    R("an unknown nuisance of the groups", "run tiny.yaml 'evaluate.groups={columns: [size]}'", 2,
      "command line, evaluate.groups.columns.0: input should be 'petro_r90' or 'redshift', got 'size'; fix the value"),
    R("a nuisance of the groups named twice", "run tiny.yaml 'evaluate.groups={columns: [redshift, redshift]}'", 2,
      "command line, evaluate.groups: columns must name each nuisance once, got [redshift, redshift]; fix the value"),
    R("whitening of large images", "run tiny.yaml curate.whitening=zca curate.image_size=128", 2,
      "command line, curate: whitening needs an image_size of at most 64, got 128; fix the value"),
    R("a simulated survey without galaxies", "run tiny.yaml survey.num_galaxies=0", 2,
      "command line, survey: num_galaxies is 0; give at least 1"),
    R("no CPUs for a worker", "run tiny.yaml resources.cpus=0", 2,
      "command line, resources.cpus: input should be greater than 0, got 0; fix the value"),
    R("a schedule that stops at once", "run tiny.yaml 'distill.schedule={kind: loss-weighted, patience: 3}'", 2,
      "command line, distill.schedule: patience must be at least 10, got 3; fix the value"),
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
    R("references that repeat one another", "run c.yaml", 2,
      "c.yaml: values refer to others by ${…} 60 times, and at most 20 are resolved; write the values themselves",
      {"c.yaml": SIMULATED + "k0: x\n" + "".join(f"k{n + 1}: ${{k{n}}}${{k{n}}}\n" for n in range(30))}),
    R("aliases that repeat one another", "run c.yaml", 2,
      "c.yaml: not valid YAML (line 6, column 20: more than 5000 values, with those that aliases repeat); fix the file",
      {"c.yaml": SIMULATED + "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
       + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9))}),
    R("a config of many levels", "run c.yaml", 2,
      "c.yaml: not valid YAML (line 3, column 53: more than 50 levels); fix the file",
      {"c.yaml": SIMULATED + "a: " + "[" * 60 + "]" * 60 + "\n"}),
    R("an override of many levels", "run tiny.yaml " + "a." * 60 + "a=1", 2,
      "command line: the key 'a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.…' has 61 levels, and at most 50 are read; see docs/config.md for "
      "the keys"),
    R("a number that no run could use", "run tiny.yaml curate.image_size=100000", 2,
      "command line, curate.image_size: it is larger than 4096, the most that any run could use; give a smaller one"),
    R("a path as name", "run tiny.yaml name=../elsewhere", 2,
      "command line, name: '../elsewhere' is not a name; give 1 to 100 letters, digits and blanks; the folder is that of output"),
    R("too many poolings for the images", "run tiny.yaml network.depth=4", 2,
      "network: 4 poolings need at least 16 pixels, the images have 8; choose another network, or another curate.image_size"),
    R("too many poolings for another network", "run tiny.yaml 'evaluate.other_networks=[{kind: convnet, depth: 5}]'", 2,
      "evaluate.other_networks.0: 5 poolings need at least 32 pixels, the images have 8; choose another network, or another "
      "curate.image_size"),
    R("a target beyond the experts' last epoch", "run tiny.yaml distill.expert_epochs=3", 2,
      "distill.expert_epochs: the target lies 3 epochs ahead, but experts store 2 only; lower it or raise "
      "experts.training.epochs"),
    R("a window after the experts' last epoch", "run tiny.yaml 'distill.schedule={kind: fixed, min_start_epoch: 2}'", 2,
      "distill.schedule.min_start_epoch: the first start epoch is 2 and its target 1 epochs ahead, but experts store 2 only; "
      "lower it or raise experts.training.epochs"),
    R("experts without the epochs that matching needs", "run tiny.yaml experts.keep=ends", 2,
      "distill.trajectories: experts.keep=ends stores the first and the last epoch, and SGD's trajectories need every epoch; "
      "set it to straight, or experts.keep to all"),
    R("initial images from epochs that are not stored", "run tiny.yaml extends=methods/mct distill.init=tgdd", 2,
      "distill.init: experts.keep=ends stores the first and the last epoch, and init=tgdd draws from all epochs; "
      "set it to dm, or experts.keep to all"),
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
    *(R(f"a limit of a request to storage that is {what}", "simulate tiny.yaml output=s3://bucket/x", 2,
        f"RAYDISTILL_STORAGE_SECONDS: '{value}' is not a positive number of seconds; set it to 65, or remove it",
        env={"RAYDISTILL_STORAGE_SECONDS": value})
      for what, value in (("not a number", "soon"), ("negative", "-1"), ("nan", "nan"))),
    R("a number of attempts that is text", "simulate tiny.yaml output=s3://bucket/x", 2,
      "AWS_MAX_ATTEMPTS: 'many' is not a number of attempts; set it to 10, or remove it", env={"AWS_MAX_ATTEMPTS": "many"}),
    R("an unknown mode of repeated requests", "simulate tiny.yaml output=s3://bucket/x", 2,
      "AWS_RETRY_MODE: there is no mode 'often'; give one of legacy, standard, adaptive", env={"AWS_RETRY_MODE": "often"}),
    R("scores without networks on all the data", "run tiny.yaml evaluate.scores=true", 2,
      "command line, evaluate: scores compare with networks trained on all the data, but full_data_networks is 0; fix the value"),
    R("a misspelt network of timm", "run tiny.yaml 'network={kind: timm, model: convnext_nanoo}'", 2,
      "network.model: timm has no model 'convnext_nanoo'; did you mean 'convnext_nano'?"),
    R("a network of timm that would be downloaded", "run tiny.yaml 'network={kind: timm, model: hf_hub:mwalmsley/zoobot}'", 2,
      "command line, network: model must be a name in timm, such as convnext_nano, got 'hf_hub:mwalmsley/zoobot'; fix the value"),
    R("weights that are missing", "run tiny.yaml 'network={kind: timm, model: test_resnet, weights: nope.safetensors}'", 2,
      "nope.safetensors: the weights cannot be read (No such file or directory); correct the path of weights"),
    R("an export of a missing distilled set", "export nope out", 3,
      "nope: there is no folder and no released set of this name; check it; `raydistill sets` lists the names"),
    R("a set of another project that is not described", "verify own.yaml tiny.yaml", 3,
      "own.yaml: it does not describe a set of images: 'own.yaml' cannot be read (images: Field required); see "
      "docs/how-to/share.md, 'Sets of other projects'"),
    R("a release that only its author could check", "release demo survey.catalog=/data/t.csv --to out", 2,
      "the overrides of a released set: 'survey.catalog=/data/t.csv' names a file or code; release a set that needs none, "
      "or verify it with a config"),
    R("a release into a folder with files", "release demo --to pictures", 3,
      "pictures: the folder for the set is not empty; give a new folder"),
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
    R("a class prior of other classes", "predict tiny.yaml pictures 'predict.prior={round: 1}'", 2,
      "predict.prior: it names round, and the classes of the curated set are round, disk; give the frequency of each of them"),
    R("a survey to predict that is not there", "predict tiny.yaml nowhere", 3,
      "nowhere: there is no such survey; give a config, a curated set or a folder of pictures"),
    R("a folder to predict without a picture", "predict tiny.yaml notes", 3,
      "notes: none of its 3 files is a picture; give a folder of files such as .png, .jpg, .jpeg",
      prepare=folder_of("notes", ".txt")),
    R("a folder to predict with a link to itself", "predict tiny.yaml pictures", 3,
      "pictures: the link 'loop' leads to a folder around it; remove it",
      prepare=link_to_itself),
    R("a folder to predict whose pictures are all damaged", "predict tiny.yaml damaged", 3,
      "damaged: none of its 3 pictures could be used: 3 corrupt; first: 0 (unknown picture format); check the pictures, or "
      "predict another survey",
      prepare=folder_of("damaged", ".jpg")),
    R("a folder to predict with FITS files of unknown stretch", "predict tiny.yaml fits", 3,
      "fits: it holds FITS files, and the experts' survey says neither their bands nor their stretch; give a config whose "
      "survey.images has kind: fits",
      prepare=folder_of("fits", ".fits")),
    R("a folder to predict of floats of unknown range", "predict tiny.yaml bright", 3,
      "bright: pixels reach from 0 to 5000, and no usual range fits them; give the display range: "
      "survey.images.value_range: [low, high], in a config of this survey",
      prepare=bright_arrays),
    R("an artifact to predict without pictures", "predict tiny.yaml given", 3,
      "given: this is a set of expert trajectories, which has no pictures to predict; give a config, a curated set or a folder "
      "of pictures",
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
    R("an export of trajectories to Hugging Face", "export given out --format huggingface", 3,
      "given: this is a set of expert trajectories, which holds no labelled pictures; give the path of a curated, "
      "synthetic or distilled set",
      prepare=link("trajectories")),
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
    R("a distilled set of aligned galaxies that training does not turn",
      "evaluate tiny.yaml distilled=given augmentation.operations=[mirror]", 3,
      "given: its galaxies are aligned to their major axis, the survey's are not, and the protocol 'paper' does not turn them in "
      "training; set curate.align=true, or evaluate.protocols.paper.training.augmentation.operations=[dihedral]",
      prepare=distilled_with(["round", "disk"], 8, aligned=True)),
    R("more GPUs for an expert than a machine has", "experts tiny.yaml resources.gpus=4 experts.num_experts=2", 5,
      "resources: one worker needs 1 CPUs and 4 GPUs, no machine of the cluster has more than 2 and 0; lower "
      "resources.cpus or resources.gpus, use a larger cluster, or set resources.workers on one that can grow"),
    R("more GPUs for distilling than a machine has", "distill tiny.yaml resources.distill_gpus=4 distill.iterations=3", 5,
      "resources: one worker needs 1 CPUs and 4 GPUs, no machine of the cluster has more than 2 and 0; lower "
      "resources.distill_cpus or resources.distill_gpus, use a larger cluster, or set resources.workers on one that can grow"),
    R("experts that diverge", "experts tiny.yaml experts.training.lr=1e30", 4,
      "experts: 1 of 1 experts diverged 2 times (expert 0: the loss or the parameters are not finite in epoch 1); lower "
      "experts.training.lr (now 1e+30); the finished experts are kept", long=True),
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
    *(R(what, "simulate tiny.yaml", 5, f"a private Ray: cannot start: {lack}, and run the same command again", shell=shell, long=long)
      for what, shell, long, lack in (
        ("files of at most 10 MB", "ulimit -f 10240", False,
         "a file may have 10 MB, and its object store is one of 80 MB; raise the limit (ulimit -f)"),
        ("address space of 2 GB", "ulimit -v 2048000", True,
         "a process may map 2000 MB of memory, and a worker maps 4080 MB; raise the limit (ulimit -v)"),
        ("few open files", "ulimit -n 40", True, "a process may open 40 files, and Ray may open 256; raise the limit (ulimit -n)"),
        ("a full folder for temporary files", "mount -t tmpfs -o size=1m none /mnt; export RAY_TMPDIR=/mnt", True,
         "/mnt/ray has 1 MB free, and its files need 10 MB; free some space, or set TMPDIR to another folder"),
        ("a folder for temporary files that cannot be written to", "mount -t tmpfs -o ro none /mnt; export RAY_TMPDIR=/mnt", True,
         "its files cannot be written to /mnt/ray; set TMPDIR to another folder"),
        ("little shared memory",
         "mount -t tmpfs -o size=1m none /dev/shm; mount -t tmpfs -o size=20m none /mnt; export RAY_TMPDIR=/mnt", True,
         "/dev/shm has 1 MB free and /mnt/ray 20 MB, and its object store needs 80 MB; free some space, or lower "
         "resources.object_store_mb"),
      )),
]
# fmt: on
