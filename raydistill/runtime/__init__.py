"""Hold clusters and leases, choose resources, handle signals, run threads."""
