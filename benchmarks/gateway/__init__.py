"""The gateway beside its goals and its peers: `python -m benchmarks.gateway`."""
