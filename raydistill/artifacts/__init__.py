"""Define artifacts: the folders that stages hand to each other, each with a manifest that is written last."""
