"""Traffic figures of workloads, services and splits, from the reports that proxies send."""
