"""What the benchmarks share: the command line, stored results, timings, memory, this machine's rates, figures."""
