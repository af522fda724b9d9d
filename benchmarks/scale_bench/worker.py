"""A process of its own for what is watched from outside.

Usage: python -m scale_bench.worker '{"task": "race", ...}'; prints one line of JSON.
"""

from __future__ import annotations

from bench_common.workers import answer

from scale_bench import accuracy, batches, needs, whole

if __name__ == "__main__":
    answer(
        {
            "race": batches.race,
            "batch": batches.alone,
            "sgc": whole.sgc,
            "inference": whole.inference,
            "propagation": whole.propagation,
            "needs": needs.needs,
            "accuracy": accuracy.accuracy,
        }
    )
