"""What a sleep costs the work after it: two loops of Python, after no sleep and after sleeps, in microseconds of CPU.

    python bench/waking.py

One only counts. The other reads 300 of 20,000 dictionaries in an order that repeats late: it needs what a cache held.
docs/results/overhead.md says what it explains.
"""

from __future__ import annotations

import statistics
import time

TABLE = [{key: str(key) for key in range(50)} for _ in range(20_000)]
SLEEPS = (0.0, 0.001, 0.01, 0.05)
state = 1


def count() -> int:
    return sum(number * number for number in range(4_000))


def read() -> int:
    global state
    total = 0
    for _ in range(300):
        state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        total += len(TABLE[state % len(TABLE)])
    return total


def main() -> None:
    for work in (count, read):
        for sleep in SLEEPS:
            taken = []
            for _ in range(100):
                time.sleep(sleep)
                began = time.thread_time()
                work()
                taken.append(time.thread_time() - began)
            print(f"{work.__name__}, after {1000 * sleep:g} ms: {1e6 * statistics.median(taken):.0f}")


if __name__ == "__main__":
    main()
