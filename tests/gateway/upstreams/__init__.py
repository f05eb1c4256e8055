"""The other side of the wire: upstreams that the gateway's tests and benchmarks call, each a process of its own."""
