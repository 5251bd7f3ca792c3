#!/usr/bin/python3
"""chaos.py for some seconds: each kind of fault once or so."""
import os
import sys
import unittest

import base
import chaos


class Chaos(unittest.TestCase):
    def run_rounds(self, *options):
        lines = []
        code = chaos.main(["--patience", "90", "--size", "10M", "--block", "10000", *options], say=lines.append)
        print("\n".join(lines), file=sys.stderr)
        self.assertEqual(code, 0, "\n".join(lines))

    def test_workers_and_clients(self):
        self.run_rounds("--rounds", "4" if base.cluster.SANITIZED else "8", "--seed", os.environ.get("DRAY_SEED", "11"),
                        "--roles", "worker,client", "--no-state")

    def test_everybody(self):
        self.run_rounds("--rounds", "4" if base.cluster.SANITIZED else "8", "--seed", os.environ.get("DRAY_SEED", "12"),
                        "--faults", "broker_kill,broker_leave,broker_stop,worker_kill,link_reset")


if __name__ == "__main__":
    unittest.main()
