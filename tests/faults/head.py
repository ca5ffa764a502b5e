"""The head of a Ray cluster with one CPU, on loopback, in a process of its own: its settings are those of the environment.

It prints its address, and ends with standard input.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

from search.connection import _on_loopback


def main() -> None:
    """Serve until standard input ends."""
    with _on_loopback(True):
        arguments = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
        cluster = Cluster(initialize_head=True, head_node_args=arguments)
    try:
        print(cluster.address, flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
