#!/usr/bin/python3
"""torn.py for some seconds: what was told to be taken outlives power cuts."""
import os
import sys
import unittest

import base
import torn


class Torn(unittest.TestCase):
    def test_power_cuts(self):
        lines = []
        rounds = "3" if base.cluster.SANITIZED else "6"
        code = torn.main(["--rounds", rounds, "--seed", os.environ.get("DRAY_SEED", "21")], say=lines.append)
        print("\n".join(lines), file=sys.stderr)
        self.assertEqual(code, 0, "\n".join(lines))


if __name__ == "__main__":
    unittest.main()
