"""What every stage needs of Ray: the cluster, resources, leases, signals and background threads."""
