"""The public Python API: load a config, run stages, open artifacts.

Each function takes a config (a `Config`, a YAML file or the name of a shipped one) and `key=value`
overrides, as the command line does, and returns the artifact of its stage. A stage whose artifact
exists opens it. A stage that needs workers raises `ClusterError` if it gets none, or if they die
too often.
"""
