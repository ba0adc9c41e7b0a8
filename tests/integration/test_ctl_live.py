#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The commands of mempoolctl that are at work for a while, and may be interrupted meanwhile: demo, bench, top.

test_ctl_live.py MEMPOOLD MEMPOOLCTL [TEST…]: starts a daemon of its own. Ends with 0 if all of it was true.
"""
import fcntl
import glob
import os
import re
import signal
import struct
import subprocess
import termios
import time
import zlib

from ctl_world import (DONE, MEMPOOLCTL, NO_DAEMON, OTHER, PATIENCE_S, Base, Daemon, Terminal, ctl, environment, run)


class Demo(Base):
    def leftovers(self):
        return [p["name"] for p in self.json("list")["pools"] if p["name"].startswith("demo-")]

    def tearDown(self):
        self.assertEqual(self.leftovers(), [])

    def test_demo_counts_a_file_as_it_is(self):
        data = b"".join(b"line %d: word\tand \xc3\xa9, some more of them\n" % i for i in range(20000))
        path = os.path.join(daemon.dir.name, "file")
        with open(path, "wb") as file:
            file.write(data)
        report = self.json("demo", path)
        self.assertIs(report["match"], True)
        self.assertEqual((report["bytes"], report["crc32"], report["lines"], report["words"]),
                         (len(data), zlib.crc32(data), data.count(b"\n"), len(data.split())))
        for way in ("pool", "pipes"):
            self.assertGreater(report[way]["mb_per_s"], 0)
            self.assertEqual(report[way]["bytes"], report[way]["rounds"] * len(data))

    def test_demo_takes_a_file_of_one_byte(self):
        path = os.path.join(daemon.dir.name, "byte")
        with open(path, "wb") as file:
            file.write(b"x")
        report = self.json("demo", path)
        self.assertEqual((report["bytes"], report["lines"], report["words"]), (1, 0, 1))

    def test_demo_makes_a_file_if_none_is_named(self):
        out = self.ctl("demo").out
        self.assertIn("as in the direct pass", out)
        self.assertIn("through the pool", out)
        self.assertGreaterEqual(self.json("demo")["bytes"], 16 << 20)

    def test_demo_refuses_what_is_no_file(self):
        empty = os.path.join(daemon.dir.name, "empty")
        open(empty, "w").close()
        for path, says in ((empty, "empty"), (daemon.dir.name, "not a regular file"), ("/nonexistent", "No such file")):
            self.refused("demo", path, code=OTHER, says=says)

    def test_demo_interrupted_leaves_nothing(self):
        terminal = Terminal("--socket", daemon.socket, "demo")
        terminal.read(until=b"MB/s")  # the crew is at work
        os.write(terminal.fd, b"\x03")
        data = terminal.read()
        self.assertEqual(terminal.end(), OTHER)
        self.assertIn(b"interrupted", data)
        self.assertIn(b"\033[?25h", data)  # the cursor is back

    def test_demo_whose_reader_goes_away_leaves_nothing(self):
        process = subprocess.Popen([MEMPOOLCTL, "--socket", daemon.socket, "demo"], env=environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertTrue(process.stdout.readline())
        process.stdout.close()
        self.assertRegex(process.stderr.read(), r"\Amempoolctl: demo: [^\n]+\n\Z")
        process.stderr.close()
        self.assertEqual(process.wait(PATIENCE_S), OTHER)

    def test_demo_with_a_worker_killed_fails_and_leaves_nothing(self):
        process = subprocess.Popen([MEMPOOLCTL, "--socket", daemon.socket, "demo"], env=environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = ""
        while "consumer 2" not in line:
            line = process.stdout.readline()
            self.assertTrue(line)
        os.kill(int(re.search(r"pid (\d+)", line)[1]), signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, OTHER, err)
        self.assertIn("ended too early (Killed)", err)


class Bench(Base):
    KEYS = {"name", "unit", "median", "min", "max", "peer", "peer_median", "ratio"}

    def leftovers(self):
        return [p["name"] for p in self.json("list")["pools"] if p["name"].startswith("bench-")]

    def tearDown(self):
        self.assertEqual(self.leftovers(), [])

    def start(self, where, *args):
        return subprocess.Popen([MEMPOOLCTL, "--socket", where.socket, "bench", "--quick", *args], env=environment(),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def await_pool(self, process, where):
        """Until the benchmark has made its pool: it is at work from then on."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and process.poll() is None:
            if "bench-" in ctl("--socket", where.socket, "list").out:
                return
        self.fail("no pool was made")

    def test_bench_measures_each_thing_beside_another(self):
        report = self.json("bench", "--quick")
        self.assertGreaterEqual(set(report), {"benchmarks", "cores", "version"})
        self.assertGreaterEqual(report["cores"], 1)
        self.assertIn(report["version"], self.ctl("ping").out)
        rows = report["benchmarks"]
        self.assertEqual(len({row["name"] for row in rows}), len(rows))
        for row in rows:
            self.assertGreaterEqual(set(row), self.KEYS, row)
            self.assertEqual(row["unit"], "ns")
            self.assertTrue(0 < row["min"] <= row["median"] <= row["max"], row)
            self.assertAlmostEqual(row["ratio"], row["median"] / row["peer_median"], delta=row["ratio"] * 1e-6)
        for word in ("pair", "replace", "thread", "process", "request", "batch"):
            self.assertTrue(any(word in row["name"] for row in rows), word)
        self.assertEqual({re.split(r"[ ,]", row["peer"])[0] for row in rows}, {"malloc", "echo"})

    def test_bench_tells_people_the_machine_and_what_is_good(self):
        result = self.ctl("bench", "--quick")
        self.assertEqual(result.err, "")
        self.assertRegex(result.out, r"(?m)^pair: .* (ns|us|ms) .* [0-9.]+x$")
        self.assertRegex(result.out, rf"mempoold \S+ on \d+ cores?, Linux {re.escape(os.uname().release)}")
        self.assertIn("Good: ", result.out)

    def test_bench_interrupted_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start(daemon)
            self.await_pool(process, daemon)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_S)  # its processes have these pipes open, too
            self.assertEqual((process.returncode, out), (OTHER, ""), err)
            self.assertRegex(err, r"\Amempoolctl: bench: interrupted[^\n]+\n\Z")
            self.assertEqual(self.leftovers(), [])

    def test_bench_whose_daemon_dies_says_so(self):
        mortal = Daemon()
        process = self.start(mortal, "--timeout", "2")
        try:
            self.await_pool(process, mortal)
        finally:
            mortal.process.kill()
            mortal.process.wait(PATIENCE_S)
            _, err = process.communicate(timeout=PATIENCE_S)
            for path in mortal.objects() + glob.glob(f"/dev/shm/mempool.{mortal.instance}"):
                os.unlink(path)
            mortal.log.close()
            mortal.dir.cleanup()
        self.assertEqual(process.returncode, NO_DAEMON, err)
        # the pool is listed before its maker has the answer, and looks at it before it begins: what was asked then is named
        self.assertRegex(err, r"\Amempoolctl: (bench: |create of pool \"bench-|alloc|free|stats|daemon)[^\n]+\n\Z")


class Top(Base):
    """As a person sees it: ncurses sends what changed, so words are waited for that come in one piece."""
    GIVEN_BACK = b"\033[?1049l"  # xterm's own screen again

    def start(self, where=None, **extra):
        return Terminal("--socket", (where or daemon).socket, "top", "--interval", "0.05", **extra)

    def test_top_shows_pools_and_quits(self):
        name = self.pool()
        self.offsets("alloc", name, "100K")
        top = self.start()
        top.read(until=name[:8].encode())
        os.write(top.fd, b"js\033[A\033[B")
        os.write(top.fd, b"\r")
        top.read(until=b"one cell = ")
        os.write(top.fd, b"\r")
        top.read(until=b"ALLOC/S")
        os.write(top.fd, b"q")
        self.assertIn(self.GIVEN_BACK, top.read())
        self.assertEqual(top.end(), DONE)

    def test_top_follows_the_size_of_its_terminal(self):
        self.pool()
        top = self.start()
        top.read(until=b"ALLOC/S")
        fcntl.ioctl(top.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        top.read(until=b"LARGEST GAP")  # only wide screens have it
        os.write(top.fd, b"q")
        top.read()
        self.assertEqual(top.end(), DONE)

    def test_top_gives_the_terminal_back_on_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            top = self.start()
            top.read(until=b"ALLOC/S")
            os.kill(top.pid, number)
            self.assertIn(self.GIVEN_BACK, top.read())
            self.assertEqual(top.end(), DONE)

    def test_top_goes_on_when_the_daemon_is_back(self):
        mortal = Daemon()
        top = self.start(mortal)
        try:
            top.read(until=b"ALLOC/S")
            mortal.kill()
            top.read(until=b"reconnecting")
            mortal.start()
            top.read(until=b"alloc/s")  # the line of sums is back
            os.write(top.fd, b"q")
            top.read()
            self.assertEqual(top.end(), DONE)
        finally:
            mortal.discard()

    def test_top_says_which_terminal_it_does_not_know(self):
        top = self.start(TERM="no-such-terminal")
        self.assertIn(b"no-such-terminal", top.read())
        self.assertEqual(top.end(), OTHER)


daemon = Base.daemon = Daemon()
run(daemon)
