"""Define artifacts: folders that stages exchange, with a manifest written last."""
