"""The room in simulated worlds, for longer than the test suite does it.

    python -m tests.core.simulate [--runs 100000] [--first-seed 1]

Ends with 1 if a promise was broken in one of them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.core.room_simulation import simulate


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the simulation of a room for many seeds.")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    met = Counter(violations=0)
    for seed in range(options.first_seed, options.first_seed + options.runs):
        try:
            met.update(simulate(seed))
        except AssertionError as error:
            met["violations"] += 1
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {error}\n")
    sys.stdout.write(f"{options.runs} runs: {dict(met)}\n")
    return 1 if met["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
