"""Rows of bad inputs: synthetic galaxies, stages that use them, and the filter."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.galaxies.trees import GZ2
from tests.e2e.bad_inputs import Row
from tests.e2e.spoiling import both, curated_with, distilled_with, generator_of_classes, generator_of_votes, link

R = Row
# A table of conditions: everything is smooth, and half of the volunteers say that it is edge-on.
FRACTIONS = {"t01_smooth_or_features_a01_smooth": 1, "t02_edgeon_a04_yes": 0.5, "t02_edgeon_a05_no": 0.5}
SMOOTH_AND_EDGE_ON = (
    ",".join(["dr7objid", *(f"{stem}_weighted_fraction" for stem in GZ2.answers)])
    + "\n"
    + ",".join(["587722981741691055", *(str(FRACTIONS.get(stem, 0)) for stem in GZ2.answers)])
    + "\n"
)
FEATURES = "id,feat_0,feat_1\na,1,2\nb,3,4\n"  # of two objects that are not in the survey
TABLE = "'pretrain.source={kind: embeddings, table: t.csv, vector: feat_*}'"


def unequal_vectors(root: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "embedding": [[1.0, 2.0], [3.0]]}), root / "t.parquet")


# fmt: off
SYNTHETIC_CONFIG_ROWS = [
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
    R("an unknown answer to sample", "sample tiny.yaml sample.conditions.answers.smoth=1", 2,
      "sample.conditions.answers: Galaxy Zoo 2 has no answer 'smoth'; did you mean 'smooth'?"),
    R("a hunt with labels of a missing file", "hunt tiny.yaml hunt.labels=labels.csv", 3,
      "labels.csv: there is no such file of labels; check hunt.labels, and RAYDISTILL_DATA if the config uses it"),
    R("a hunt with labels without a column of filenames", "hunt tiny.yaml hunt.labels=votes.csv", 3,
      "votes.csv: it has no column 'filename'; its columns are: id, class; give a CSV with the columns filename and label"),
    R("a hunt with an unknown label", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: row 3 has the label 'perhaps'; use normal and anomaly, no and yes, or grades from 1 to 5",
      {"l.csv": "filename,label\na.jpg,normal\nb.jpg,perhaps\n"}),
    R("a hunt whose labels are all 1", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: all 2 labels are 1, which may be the lowest grade of five or the yes of 0 and 1; write normal for the lowest "
      "grade, or anomaly for yes",
      {"l.csv": "filename,label\n1,1\n2,1\n"}),
    R("a hunt with labels of two kinds", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: row 3 has the label '5', and rows before it are of the kind yes-no; use one kind of labels in a file",
      {"l.csv": "filename,label\na.jpg,yes\nb.jpg,5\n"}),
    R("a hunt with labels that contradict each other", "hunt tiny.yaml hunt.labels=l.csv", 3,
      "l.csv: row 3 contradicts an earlier row of 'a.jpg'; keep one of them",
      {"l.csv": "filename,label\na.jpg,yes\na.jpg,no\n"}),
    R("a hunt with a label that is none of its classes", "hunt tiny.yaml hunt.labels=l.csv 'hunt.classes=[round, spiral]'", 3,
      "l.csv: row 2 has the label 'bar', and the classes are round, spiral; correct it, or hunt.classes",
      {"l.csv": "filename,label\na.jpg,bar\n"}),
    R("a hunt for one class by name", "hunt tiny.yaml 'hunt.classes=[round]'", 2,
      "command line, hunt: classes must name two to 9 different classes, got ['round']; fix the value"),
    R("a hunt for classes with an oracle", "hunt tiny.yaml 'hunt.classes=[round, spiral]' 'hunt.oracle={positive: a > 0}'", 2,
      "command line, hunt: classes are learned by the regression from labels: leave out synthetic, oracle and learner; "
      "fix the value"),
    R("predictions without experts and features", "predict tiny.yaml predict.experts=0 predict.features=false", 2,
      "command line, predict: without experts and features there is nothing to predict; fix the value"),
    R("predictions without experts and without an encoder", "predict tiny.yaml predict.experts=0", 2,
      "features: without classes there are no experts, whose features these would be; set it to pretrain, or to the folder "
      "of an encoder"),
    R("a hunt with labels and an oracle", "hunt tiny.yaml hunt.labels=votes.csv 'hunt.oracle={positive: truth_class == 0}'", 2,
      "hunt.labels: the oracle labels by itself; leave it out, or set hunt.oracle=null"),
    R("a hunt with an unknown strategy", "hunt tiny.yaml 'hunt.oracle={positive: a > 0, strategies: [magic]}'", 2,
      "command line, hunt: oracle.strategies names 'magic'; known are upper_bound, real, random, attributes, network, fixmatch; "
      "fix the value"),
    R("a hunt on a part that does not exist", "hunt tiny.yaml 'hunt.oracle={positive: a > 0, part: {index: 2, parts: 2}}'", 2,
      "command line, hunt.oracle.part: index must be less than parts, got 2 of 2; fix the value"),
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
      "command line, audit: spaces must name at least one of scattering, morphology, experts, encoder; fix the value"),
    R("an augmentation with an unknown key", "augment tiny.yaml augment.shot=[10]", 2,
      "command line, augment.shot: there is no key 'shot'; did you mean 'shots'?"),
    R("an augmentation with one seed", "augment tiny.yaml augment.seeds=1", 2,
      "command line, augment: seeds must be at least 2, or no interval can be given, got 1; fix the value"),
    R("an augmentation with a rate that is not a number", "augment tiny.yaml augment.lr_grid=[.nan]", 2,
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
    R("a filter of samples above 1", "sample tiny.yaml sample.filter.min_probability=2", 2,
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
    R("a batch that the shards of an encoder do not divide", "pretrain tiny.yaml pretrain.training.batch_size=3", 2,
      "command line, pretrain.training: batch_size must be a multiple of shards, got 3 and 2; fix the value"),
    R("a zoom of views upside down", "pretrain tiny.yaml 'pretrain.training.views.zoom=[1.2, 0.5]'", 2,
      "command line, pretrain.training.views: zoom must be two numbers in (0, 1], the smaller first, got [1.2, 0.5]; fix the value"),
    R("widths of an encoder that its norm does not divide", "pretrain tiny.yaml 'pretrain.network={kind: pooled, widths: [10]}'", 2,
      "command line, pretrain.network: widths must be multiples of groups = 8, at least one, got [10]; fix the value"),
    R("an unknown loss of an encoder", "pretrain tiny.yaml pretrain.training.loss=dino", 2,
      "command line, pretrain.training.loss: input should be 'simclr' or 'vicreg', got 'dino'; fix the value"),
    R("one further set for an encoder twice", "pretrain tiny.yaml 'pretrain.extra_sets=[a, a]'", 2,
      "command line, pretrain: extra_sets must not name one twice, got a, a; fix the value"),
    R("a TorchScript file as encoder", "pretrain tiny.yaml 'pretrain.source={kind: torchscript, file: e.pt}'", 2,
      "command line, pretrain.source.kind: there is no kind 'torchscript'; known are: trained, weights, onnx, embeddings"),
    R("an encoder in an ONNX file without its name", "pretrain tiny.yaml 'pretrain.source={kind: onnx}'", 2,
      "command line, pretrain.source: file must name an ONNX file; fix the value"),
    R("a table of features without its name", "pretrain tiny.yaml 'pretrain.source={kind: embeddings}'", 2,
      "command line, pretrain.source: table must name a table of features; fix the value"),
    R("an encoder of code that cannot be imported", "pretrain tiny.yaml 'pretrain.network={kind: custom, factory: \"no.such:thing\"}'", 2,
      "pretrain.network: network.factory=no.such:thing cannot be imported (No module named 'no'); choose another network, or "
      "another pretrain.source.input_size or curate.image_size"),
    R("a further encoder of code that cannot be imported",
      "pretrain tiny.yaml 'pretrain.members=[{kind: convnet, depth: 2}, {kind: custom, factory: \"no.such:thing\"}]'", 2,
      "pretrain.members.1: network.factory=no.such:thing cannot be imported (No module named 'no'); choose another network, or "
      "another pretrain.source.input_size or curate.image_size"),
    R("a missing table of features", "pretrain tiny.yaml 'pretrain.source={kind: embeddings, table: nope.csv}'", 3,
      "nope.csv: there is no such file; check pretrain.source.table, and RAYDISTILL_DATA if the config uses it"),
    R("missing weights of an encoder", "pretrain tiny.yaml 'pretrain.source={kind: weights, weights: nope}'", 3,
      "nope: there is no such file; check pretrain.source.weights, and RAYDISTILL_DATA if the config uses it"),
    R("features of an encoder that is not there", "predict tiny.yaml pictures features=nope", 3,
      "nope: no finished encoder is here; correct features, or run 'raydistill pretrain CONFIG'"),
    R("a head without regularisation", "distill tiny.yaml 'distill.objective={kind: ridge, regularisation: 0}'", 2,
      "command line, distill.objective: regularisation must be positive, got 0.0; fix the value"),
    R("an unknown objective", "distill tiny.yaml 'distill.objective={kind: gradients}'", 2,
      "command line, distill.objective.kind: there is no kind 'gradients'; known are: trajectories, ridge"),
    R("an unknown space of images", "distill tiny.yaml 'distill.space={kind: wavelets}'", 2,
      "command line, distill.space.kind: there is no kind 'wavelets'; known are: pixels, components, pyramid, generator"),
    R("one encoder twice", "distill tiny.yaml 'distill.objective={kind: ridge, encoders: [a, a]}'", 2,
      "command line, distill.objective: encoders must not name one twice, got a, a; fix the value"),
    R("encoders beside images that experts choose",
      "distill tiny.yaml 'distill.objective={kind: ridge, encoders: [a]}' distill.init=correct", 2,
      "command line, distill: objective.encoders replace the experts, which init and labels need here; fix the value"),
    R("soft labels for a head", "distill tiny.yaml 'distill.objective={kind: ridge}' distill.labels=soft", 2,
      "command line, distill: objective: ridge needs labels: hard; fix the value"),
    R("a table of conditions that is not there", "sample tiny.yaml sample.conditions.table=nope.csv", 3,
      "nope.csv: there is no such table; check sample.conditions.table, and RAYDISTILL_DATA if the config uses it"),
]
SYNTHETIC_RUN_ROWS = [
    R("pretrain before curate", "pretrain tiny.yaml curate.image_size=9", 3,
      "runs/tiny/curated-…: there is no curated set here; run 'raydistill curate CONFIG' first"),
    R("a table of features without the column of vectors", "pretrain tiny.yaml 'pretrain.source={kind: embeddings, table: t.csv}'", 2,
      "pretrain.source.vector: the table has no column 'embedding'; known are: id, feat_0, feat_1", {"t.csv": FEATURES}),
    R("a table of features with a repeated id", f"pretrain tiny.yaml {TABLE}", 3,
      "t.csv: 1 ids have several rows (first: a); leave one row of each id", {"t.csv": FEATURES + "a,5,6\n"}),
    R("a table of features with a value that is not a number", f"pretrain tiny.yaml {TABLE}", 3,
      "t.csv: 1 of 3 vectors have a value that is not a finite number (first: c); leave these rows out, or compute them again",
      {"t.csv": FEATURES + "c,nan,6\n"}),
    R("vectors of features of unequal length", "pretrain tiny.yaml 'pretrain.source={kind: embeddings, table: t.parquet}'", 3,
      "t.parquet: the vectors of 'embedding' have different lengths, or some are missing; give each object a vector of one "
      "length", prepare=unequal_vectors),
    R("a table of features of another survey", f"pretrain tiny.yaml {TABLE}", 3,
      "t.csv: it has features of 0 train galaxies of the curated set, and at least 2 are needed; give the table of this survey, "
      "or check pretrain.source.id", {"t.csv": FEATURES}),
    R("an encoder of too many poolings",
      "pretrain tiny.yaml pretrain.source.kind=weights 'pretrain.network={kind: convnet, depth: 5}'", 2,
      "pretrain.network: 5 poolings need at least 32 pixels, the images have 8; choose another network, or another "
      "pretrain.source.input_size"),
    R("weights of an encoder that are not safetensors", "pretrain tiny.yaml 'pretrain.source={kind: weights, weights: votes.csv}'", 2,
      "votes.csv: the weights are not a safetensors file; give the parameters of pretrain.network in this format"),
    R("an ONNX file that is a table", "pretrain tiny.yaml 'pretrain.source={kind: onnx, file: votes.csv}'", 2,
      "votes.csv: onnxruntime cannot read this file ([ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Failed to load model "
      "because protobuf parsing failed.); give an ONNX file that takes pictures [N, 3, S, S]"),
    R("features of the run's encoder before pretrain", "predict tiny.yaml pictures features=pretrain", 3,
      "runs/tiny/encoder-…: there is no encoder here; run 'raydistill pretrain CONFIG' first"),
    R("features of a curated set", "predict tiny.yaml pictures features=given", 3,
      "given: this is a curated set, not an encoder; give the path of an encoder", prepare=link("curated")),
    R("an encoder that is not there", "distill tiny.yaml 'distill.objective={kind: ridge, encoders: [nope]}'", 3,
      "nope: no finished encoder is here; correct distill.objective.encoders, or run 'raydistill pretrain CONFIG'"),
    R("sample before generate", "sample tiny.yaml", 3,
      "runs/tiny/generator-…: there is no generator here; run 'raydistill generate CONFIG' first"),
    R("inject before curate", "sample tiny.yaml sample.source.kind=injection curate.image_size=9", 3,
      "runs/tiny/curated-…: there is no curated set here; run 'raydistill curate CONFIG' first"),
    R("an example of an injection that is not a training galaxy",
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
    R("an audit with a second set that does not exist", "audit tiny.yaml audit.second=nope", 3,
      "nope: no finished synthetic set is here; correct audit.second=PATH"),
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
      "other: its train and test galaxies share 1 class with the source; correct adapt.classes; at least 2 are needed",
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
]
# fmt: on
