"""Rows of the table of bad inputs about the analysis of prototypes."""

from __future__ import annotations

from tests.e2e.bad_inputs import Row
from tests.e2e.spoiling import distilled_with, experts_with_code, link

R = Row
TABLE = {"t.csv": "id,u\n0,1\n1,2\n"}
# fmt: off
ANALYSIS_CONFIG_ROWS = [
    R("a class prior of infinite frequency", "run demo 'predict.prior={round: .inf, spiral: 1}'", 2,
      "command line, predict: prior needs finite frequencies of at least 0, of which one is above 0; fix the value"),
    R("a temperature of 0", "run demo predict.temperature=0", 2,
      "command line, predict: temperature must be auto or a finite number above 0, got 0; fix the value"),
    R("a part of the galaxies that does not exist", "run demo 'curate.part={index: 3, parts: 3}'", 2,
      "command line, curate.part: index must be less than parts, got 3 of 3; fix the value"),
    R("a control without parts", "run demo analyse.permuted=true", 2,
      "command line, analyse: permuted needs disjoint, the number of parts whose labels it permutes; fix the value"),
    R("an analysis with too few permutations", "analyse tiny.yaml analyse.permutations=9", 2,
      "command line, analyse: permutations must be at least 99, got 9; fix the value"),
    R("properties of galaxies without a column", "analyse tiny.yaml 'analyse.properties={table: t.csv, columns: {}}'", 2,
      "command line, analyse.properties: columns must name at least one column; fix the value"),
    R("a property with an unknown unit", "analyse tiny.yaml 'analyse.properties={table: t.csv, columns: {u: magg}}'", 2,
      "command line, analyse.properties: columns.u must be a unit such as mag or arcsec, got 'magg'; fix the value"),
    R("properties in a file that is not there", "analyse tiny.yaml 'analyse.properties={table: nope.csv, columns: {u: mag}}'", 3,
      "nope.csv: there is no such table; check analyse.properties.table, and RAYDISTILL_DATA if the config uses it"),
]
ANALYSIS_RUN_ROWS = [
    R("analyse before distill", "analyse tiny.yaml distill.iterations=3", 3,
      "runs/tiny/distilled-…: there is no distilled set here; run 'raydistill distill CONFIG' first"),
    R("an analysis of experts", "analyse tiny.yaml distilled=given", 3,
      "given: this is a set of expert trajectories, not a distilled set; give the path of a distilled set",
      prepare=link("trajectories")),
    R("an analysis of a set of other classes", "analyse tiny.yaml distilled=given", 3,
      "given: its classes are spiral, disk, the survey's are round, disk; set curate.classes to the classes it was distilled for",
      prepare=distilled_with(["spiral", "disk"], 8)),
    R("an analysis of a set of another size", "analyse tiny.yaml distilled=given", 3,
      "given: its images have 4 px, the survey's have 8; set curate.image_size=4",
      prepare=distilled_with(["round", "disk"], 4)),
    R("experts whose network is code of somebody else", "analyse tiny.yaml", 3,
      "runs/tiny/trajectories-…: its network is the code 'nets:make', which your config does not name; if you trust this code, "
      "name it in evaluate.other_networks",
      prepare=experts_with_code),
    R("properties of a column that is not there", "analyse tiny.yaml 'analyse.properties={table: t.csv, columns: {v: mag}}'", 2,
      "analyse.properties.columns: t.csv has no column 'v'; known are: id, u", TABLE),
    R("properties of other galaxies", "analyse tiny.yaml 'analyse.properties={table: t.csv, columns: {u: mag}}'", 3,
      "t.csv: 'u' is known of fewer than two of the 38 training galaxies; check analyse.properties.id",
      {"t.csv": "id,u\na,1\nb,2\n"}),
]
