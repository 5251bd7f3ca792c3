#!/usr/bin/python3
"""soak.py in small: jobs of all kinds and the faults that happen to them leave nothing behind."""
import unittest

import soak


class Soak(unittest.TestCase):
    def test_short(self):
        lines = []
        code = soak.main(["--seconds", "5", "--rounds", "4", "--seed", "3", "--tasks", "20000"], lines.append)
        self.assertEqual(code, 0, "\n".join(lines))
        self.assertRegex(lines[-1], r"^\d+ rounds, and nothing stays$")

    def test_what_stays_is_said(self):
        """The soak can fail: a job that nobody gives up."""
        class Leaky(soak.Soak):
            def do_detached(self):
                self.watcher.submit([dict(tasks=10, op=soak.COUNT, wanted=True)], detached=True)
                for _ in range(11):
                    self.watcher.hear_kind("RESULT", "JOB_ENDED")

        whole, lines = soak.Soak, []
        soak.Soak = Leaky
        try:
            code = soak.main(["--seconds", "0", "--only", "detached", "--patience", "1"], lines.append)
        finally:
            soak.Soak = whole
        self.assertEqual(code, 1)
        self.assertIn("1 jobs and 1 clients", "\n".join(lines))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
