"""Start clusters, choose resources, hold leases, handle signals and run background threads."""
