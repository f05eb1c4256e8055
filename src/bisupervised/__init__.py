"""A small local model first, a large remote one where it pays, and a supervisor on each."""
