"""Studies: recorded or live runs of both levels, compared with published numbers."""
