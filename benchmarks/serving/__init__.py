"""How fast the server is: `python -m benchmarks.serving.throughput`, `python -m benchmarks.serving.overload`."""
