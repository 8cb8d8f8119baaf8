"""One package a stage: its config, artifact, work, figures and pages.

`STAGE` of each package says what it is, and `raydistill.table` lists them. The main path (simulate,
curate, experts, distill, evaluate, predict, tune) imports no other stage. The others import one
another only through artifacts.
"""
