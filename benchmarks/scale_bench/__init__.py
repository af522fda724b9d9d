"""Parts of ``benchmarks/scale.py``: what a graph of the size of ogbn-products costs, step by step."""
