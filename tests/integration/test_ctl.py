#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mempoolctl against a real daemon: its commands, their text, their JSON, their exit codes.

test_ctl.py MEMPOOLD MEMPOOLCTL [TEST…]: starts a daemon of its own. Ends with 0 if all of it was true.
"""
import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest
import xml.etree.ElementTree

from ctl_world import (CORRUPT, DONE, FULL, MEMPOOLCTL, NO_DAEMON, NO_POOL, NOT_ALLOWED, OTHER, PATIENCE_S, TIMED_OUT,
                       USAGE, Base, Daemon, Terminal, ctl, environment, run)

STATS = {"total", "used", "requested", "free", "largest_free", "leased_idle", "backed", "peak_used", "allocations", "gaps",
         "sessions", "alloc_total", "free_total", "failed_total", "fragmentation"}


class WithoutADaemon(Base):
    def test_no_daemon_says_where_it_looked_and_how_to_start_one(self):
        for args, env, tried in (
            (["--socket", "/nonexistent/a"], {}, "/nonexistent/a"),
            ([], {"MEMPOOL_SOCKET": "/nonexistent/b"}, "/nonexistent/b"),
            ([], {"XDG_RUNTIME_DIR": "/nonexistent"}, "/nonexistent/mempoold.sock"),
        ):
            if not args and "XDG_RUNTIME_DIR" in env and os.path.exists("/run/mempoold/mempoold.sock"):
                continue  # somebody's own daemon runs here: it would answer
            for command in (["ping"], ["list"], ["create", "x", "--size", "1M"], ["stats"], ["viz", "x"], ["demo"]):
                result = ctl(*args, *command, **env)
                self.assertEqual(result.code, NO_DAEMON, result)
                self.assert_one_line(result)
                self.assertIn(tried, result.err)
                self.assertIn("'mempoold'", result.err)
                error = json.loads(ctl(*args, *command, "--json", **env).err)["error"]
                self.assertEqual(error["errno"], errno.ECONNREFUSED)

    def test_usage_is_refused_before_anybody_is_asked(self):
        for args, says in (
            ([], "--help"),
            (["stast"], "no command 'stast'; did you mean 'stats'\\?"),
            (["frobnicate"], "no command 'frobnicate'"),
            (["help", "lst"], "did you mean 'list'"),
            (["list", "--bogus"], "no option '--bogus'"),
            (["list", "--jsn"], "did you mean '--json'"),
            (["--sokcet", "x", "list"], "did you mean '--socket'"),
            (["list", "-x"], "no option '-x'"),
            (["list", "--socket"], "needs a value"),
            (["list", "--json=1"], "takes no value"),
            (["list", "--color", "sometimes"], "auto|always|never"),
            (["list", "--timeout", "0"], "between"),
            (["list", "--timeout", "nan"], "between"),
            (["list", "more"], "too many"),
            (["create", "x"], "--size"),
            (["create", "--size", "1M"], "NAME"),
            (["create", "x", "--size", "0"], "at least one byte"),
            (["create", "x", "--size", "12Q"], "K, M, G and T"),
            (["create", "x", "--size", "-1"], "negative"),
            (["create", "x", "--size", ""], "empty"),
            (["create", "x", "--size", "99999999T"], "64 bits"),
            (["create", "x", "--size", "2M", "--max-size", "1M"], "below"),
            (["create", "x", "--size", "1M", "--mode", "0999"], "octal"),
            (["create", "x", "--size", "1M", "--mode", "1777"], "octal"),
            (["create", "x", "--size", "1M", "--group", "no-such-group"], "no-such-group"),
            (["create", "x", "--size", "1M", "--fill", "ones"], "pattern|none|zero"),
            (["create", "x", "--size", "1M", "--lifetime", "long"], "session|pool"),
            (["create", "x", "--size", "1M", "--lease", "on"], "auto|off"),
            (["alloc", "x"], "SIZE"),
            (["alloc", "x", "0"], "at least one"),
            (["alloc", "x", "1", "--align", "3"], "power of two"),
            (["alloc", "x", "1", "--align", "4M"], "power of two"),
            (["alloc", "x", "1", "--count", "0"], "between"),
            (["alloc", "x", "1", "--count", "2", "--name", "k"], "--name"),
            (["free", "x"], "OFFSET"),
            (["free", "x", "zzz"], "not a number"),
            (["find", "x"], "KEY"),
            (["resize", "x", "1X"], "unit"),
            (["stats", "--watch", "0"], "between"),
            (["viz", "x", "--width", "3"], "between"),
            (["viz", "x", "--format", "gif"], "ascii|unicode|json|svg|html"),
            (["bench", "extra"], "one argument too many"),
            (["bench", "--quick=1"], "takes no value"),
            (["top"], "needs a terminal|has no JSON|is for people"),
            (["top", "--interval", "0"], "between"),
        ):
            with self.subTest(args=args):
                self.refused(*args, code=USAGE, says=says)

    def test_help_goes_to_stdout_and_names_what_there_is(self):
        names = ("ping", "create", "list", "alloc", "find", "free", "stats", "sessions", "viz", "check", "log", "resize", "destroy",
                 "demo", "bench", "top")
        for args in (["--help"], ["help"]):
            result = ctl(*args)
            self.assertEqual((result.code, result.err), (DONE, ""))
            for name in names:
                self.assertRegex(result.out, rf"(?m)^  {name} ")
        for name in names:
            result = ctl(name, "--help")
            self.assertEqual((result.code, result.err), (DONE, ""))
            self.assertIn(f"mempoolctl {name}", result.out)
            for option in ("--json", "--socket", "--color", "--timeout"):
                self.assertIn(option, result.out)
            self.assertEqual(ctl("help", name).out, result.out)

    def test_version(self):
        self.assertRegex(ctl("--version").out, r"\Amempoolctl \d+\.\d+\.\d+\n\Z")

    def test_a_silent_daemon_times_out(self):
        path = os.path.join(daemon.dir.name, "silent")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(8)  # the kernel connects; nobody ever answers
            for args in (["ping"], ["--json", "ping"]):
                begin = time.monotonic()
                result = ctl("--socket", path, "--timeout", "0.3", *args)
                self.assertEqual(result.code, TIMED_OUT, result)
                self.assertLess(time.monotonic() - begin, 9)
                self.assert_one_line(result)
                self.assertIn("--timeout", result.err)
            self.assertEqual(json.loads(result.err)["error"]["errno"], errno.ETIMEDOUT)

    def test_a_daemon_that_falls_silent_times_out(self):
        path = os.path.join(daemon.dir.name, "falls-silent")
        hello = bytes.fromhex("08000000" "0801" "520408011001")  # Reply {id: 1, hello {version: 1, session: 1}}

        def say_hello(listener):
            with listener.accept()[0] as connection:
                connection.recv(256)
                connection.sendall(hello)
                while connection.recv(256):
                    pass  # until mempoolctl has gone

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(8)
            listener.settimeout(PATIENCE_S)
            host = threading.Thread(target=say_hello, args=(listener,))
            host.start()
            result = ctl("--socket", path, "--timeout", "0.3", "list")
            host.join()
        self.assertEqual(result.code, TIMED_OUT, result)
        self.assert_one_line(result)
        self.assertIn("--timeout", result.err)
        self.assertNotIn("mempool_set_timeout", result.err)  # advice for programs

    @unittest.skipUnless(os.getuid() == 0, "needs root, to be somebody else")
    def test_a_socket_that_one_may_not_use_is_told(self):
        path = os.path.join(daemon.dir.name, "not-yours")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            os.chmod(path, 0o600)
            listener.listen(8)
            result = ctl("--socket", path, "ping", user=65534)
        self.assertEqual(result.code, NOT_ALLOWED, result)
        self.assert_one_line(result)
        self.assertRegex(result.err, "not-yours.*--socket")


class Pools(Base):
    def test_ping(self):
        self.assertIn("mempoold", self.ctl("ping").out)
        pong = self.json("ping")
        self.assertRegex(pong["version"], r"\d+\.\d+\.\d+")
        self.assertGreater(pong["rtt_us"], 0)
        self.assertEqual(pong["pid"], daemon.process.pid)

    def test_global_options_stand_before_or_after(self):
        self.assertEqual(ctl("--json", "--socket", daemon.socket, "list").code, DONE)
        self.assertEqual(ctl("list", "--json", "--socket", daemon.socket).code, DONE)
        self.assertEqual(ctl("list", MEMPOOL_SOCKET=daemon.socket).code, DONE)
        self.assertEqual(ctl("stats", "nothing", "--socket", daemon.socket, POSIXLY_CORRECT="1").code, NO_POOL)

    def test_create_does_as_told_and_list_shows_it(self):
        name = "created.as-told_1"
        group = os.getgid()
        made = self.json("create", name, "--size", "1000", "--max-size", "1M", "--mode", "0660", "--group", str(group),
                         "--lifetime", "pool", "--fill", "zero", "--lease", "off", "--guard", "--reserve")
        self.addCleanup(ctl, "--socket", daemon.socket, "destroy", name)
        want = {"name": name, "total": 1008, "max_size": 1 << 20, "mode": 0o660, "uid": os.getuid(), "gid": group,
                "lifetime": "pool", "fill": "zero", "lease": "off", "guard": True, "reserve": True, "used": 0}
        self.assertEqual({k: made[k] for k in want}, want)
        listed = {p["name"]: p for p in self.json("list")["pools"]}
        self.assertEqual({k: listed[name][k] for k in want}, want)
        self.assertRegex(self.ctl("list").out, rf"(?m)^{re.escape(name)} .* 0660 ")

    def test_create_refuses_a_taken_name_and_a_bad_one(self):
        name = self.pool()
        error = self.refused("create", name, "--size", "1M", code=OTHER, says=name)
        self.assertEqual(error["errno"], errno.EEXIST)
        self.refused("create", "a/b", "--size", "1M", code=USAGE, says="1 to 64")
        self.refused("create", "n" * 65, "--size", "1M", code=USAGE, says="1 to 64")

    def test_create_with_more_than_the_machine_has_is_full(self):
        error = self.refused("create", "huge", "--size", "64T", "--reserve", code=FULL, says="huge")
        self.assertIn(error["errno"], (errno.ENOSPC, errno.EDQUOT))

    def test_a_wrong_pool_name_gets_a_suggestion(self):
        name = self.pool()
        wrong = name[:-1] + "x"
        for args in (["alloc", wrong, "1"], ["find", wrong, "k"], ["free", wrong, "4096"], ["stats", wrong],
                     ["sessions", wrong], ["viz", wrong], ["check", wrong], ["resize", wrong, "1M"], ["destroy", wrong]):
            with self.subTest(args=args):
                error = self.refused(*args, code=NO_POOL, says=f"did you mean '{re.escape(name)}'")
                self.assertEqual(error["errno"], errno.ENOENT)
        self.refused("stats", "far-away-from-all", code=NO_POOL, says="mempoolctl list")

    def test_alloc_outlives_the_tool_until_free(self):
        name = self.pool()
        out = self.ctl("alloc", name, "1K", "--count", "3").out
        self.assertRegex(out, r"\A(0x[0-9a-f]+\n){3}\Z")
        offsets = [int(line, 16) for line in out.split()]
        self.assertEqual(len(set(offsets)), 3)
        self.assertEqual(self.json("stats", name)["allocations"], 3)
        self.assertEqual(self.json("free", name, *map(hex, offsets))["freed"], 3)
        self.assertEqual(self.json("stats", name)["allocations"], 0)

    def test_alloc_aligns(self):
        name = self.pool("8M")
        for align in (16, 64, 4096, 1 << 20):
            offset, = self.offsets("alloc", name, "100", "--align", str(align))
            self.assertEqual(offset % align, 0)

    def test_alloc_with_a_name_is_found_and_taken_once(self):
        name = self.pool()
        offset, = self.offsets("alloc", name, "1K", "--name", "head")
        self.assertEqual(self.offsets("find", name, "head"), [offset])
        self.assertEqual(self.ctl("find", name, "head").out, hex(offset) + "\n")
        error = self.refused("alloc", name, "1K", "--name", "head", code=OTHER, says="head")
        self.assertEqual(error["errno"], errno.EEXIST)
        self.assertEqual(self.json("stats", name)["allocations"], 1)  # what was refused its name was freed again
        self.refused("find", name, "tail", code=OTHER, says="tail")

    def test_alloc_gets_all_or_none(self):
        for lifetime in ("session", "pool"):
            name = self.pool("64K", "--lifetime", lifetime)
            error = self.refused("alloc", name, "10K", "--count", "7", code=FULL, says=r"free blocks, or")
            self.assertEqual(error["errno"], errno.ENOSPC)
            self.assertEqual(self.json("stats", name)["allocations"], 0)
            self.assertGreater(self.json("stats", name)["failed_total"], 0)

    def test_free_tells_the_first_error_and_goes_on(self):
        name = self.pool()
        a, b = self.offsets("alloc", name, "1K", "--count", "2")
        result = self.ctl("free", name, hex(a), hex(a), "0xfff0", str(b), code=OTHER)
        self.assertIn(hex(a), result.err)
        self.assertEqual(result.out, f"freed 2 blocks; not freed: {a:#x}, 0xfff0\n")
        self.assertEqual(self.json("stats", name)["allocations"], 0)
        result = self.ctl("--json", "free", name, *(hex(16 * i) for i in range(1, 1000)), code=OTHER)
        self.assertEqual(json.loads(result.out), {"freed": 0, "failed": [16 * i for i in range(1, 1000)]})
        self.assertTrue(self.ctl("free", name, *(hex(16 * i) for i in range(1, 1000)), code=OTHER).out.endswith(" and 991 more\n"))
        error = json.loads(self.ctl("--json", "free", name, "0xfff8", code=OTHER).err)["error"]
        self.assertEqual(error["errno"], errno.EFAULT)

    def test_stats_has_every_field_and_they_add_up(self):
        name = self.pool("1M")
        self.offsets("alloc", name, "100", "--count", "10")
        stats = self.json("stats", name)
        self.assertGreaterEqual(set(stats), STATS | {"name"})
        self.assertEqual(stats["name"], name)
        self.assertEqual(stats["used"] + stats["free"] + stats["leased_idle"], stats["total"])
        self.assertEqual((stats["total"], stats["allocations"], stats["requested"]), (1 << 20, 10, 1000))
        for key in STATS - {"fragmentation"}:
            self.assertIsInstance(stats[key], int)
        self.assertIn("10 live", self.ctl("stats", name).out)

    def test_stats_of_all_has_the_daemon_and_its_limits(self):
        name = self.pool()
        stats = self.json("stats")
        daemon_says = stats["daemon"]
        self.assertGreaterEqual(set(daemon_says), {"version", "instance", "pid", "uptime", "recoveries", "limits", "loops",
                                                 "last_recoveries"})
        self.assertEqual((daemon_says["recoveries"], daemon_says["last_recoveries"]), (0, []))
        self.assertEqual((daemon_says["instance"], daemon_says["pid"]), (daemon.instance, daemon.process.pid))
        self.assertEqual(daemon_says["limits"]["request_frame"], 64 << 10)
        self.assertEqual(daemon_says["limits"]["connections_per_uid"], 1024)
        self.assertEqual(sum(daemon_says["loops"]), 1)  # ours
        pool, = [p for p in stats["pools"] if p["name"] == name]
        self.assertGreaterEqual(set(pool), STATS)
        self.assertIn(name, self.ctl("stats").out)

    def test_watch_gives_a_document_a_line_and_ends_well(self):
        name = self.pool()
        for args, read in ((["stats", name], lambda d: d["name"]), (["stats"], lambda d: d["daemon"]["instance"])):
            for sign in (signal.SIGINT, signal.SIGTERM):
                process = subprocess.Popen([MEMPOOLCTL, "--socket", daemon.socket, "--json", *args, "--watch", "0.02"],
                                           env=environment(), stdout=subprocess.PIPE, text=True)
                seen = {read(json.loads(process.stdout.readline())) for _ in range(3)}
                process.send_signal(sign)
                rest, _ = process.communicate(timeout=PATIENCE_S)
                self.assertEqual(process.returncode, DONE)
                seen |= {read(json.loads(line)) for line in rest.splitlines()}  # none is torn
                self.assertEqual(len(seen), 1)

    def test_watch_tells_rates_and_ends_with_its_pool(self):
        name = self.pool()
        process = subprocess.Popen([MEMPOOLCTL, "--socket", daemon.socket, "stats", name, "--watch", "0.02"],
                                   env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        self.assertRegex(process.stdout.readline(), r"\d alloc/s, \d+ free/s")
        self.ctl("destroy", name)
        _, err = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, NO_POOL)
        self.assertRegex(err, r"\A[^\n]+\n\Z")

    def test_sessions_shows_who_has_the_pool_open(self):
        name = self.pool()
        watcher = subprocess.Popen([MEMPOOLCTL, "--socket", daemon.socket, "--json", "stats", name, "--watch", "1000"],
                                   env=environment(), stdout=subprocess.PIPE, text=True)
        watcher.stdout.readline()
        session, = [s for s in self.json("sessions", name)["sessions"] if s["pid"] == watcher.pid]
        self.assertEqual((session["pool"], session["uid"], session["blocks"], session["bytes"], session["state"]),
                         (name, os.getuid(), 0, 0, "active"))
        self.assertEqual(session["command"], "mempoolctl")
        self.assertGreater(session["session"], 0)
        self.assertAlmostEqual(session["since"], time.time(), delta=PATIENCE_S)
        self.assertRegex(self.ctl("sessions").out, rf"(?m)^ *{watcher.pid} +mempoolctl .*{re.escape(name)}")
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=PATIENCE_S)

    def test_sessions_leaves_out_who_looks(self):
        self.daemon = Daemon()  # where nobody else is
        self.addCleanup(self.daemon.discard)
        with subprocess.Popen([MEMPOOLCTL, "--socket", self.daemon.socket, "--json", "stats", "--watch", "1000"],
                              env=environment(), stdout=subprocess.PIPE, text=True) as watcher:
            watcher.stdout.readline()  # its session is there
            self.assertEqual([s["pid"] for s in self.json("sessions")["sessions"]], [watcher.pid])
            watcher.send_signal(signal.SIGINT)
            watcher.communicate(timeout=PATIENCE_S)
        self.assertEqual(self.ctl("sessions").out, "no other session\n")
        self.assertEqual(self.json("sessions"), {"sessions": []})

    def test_log_tells_what_reached_the_daemon(self):
        name = self.pool("1M")
        offset, = self.offsets("alloc", name, "5000")
        self.ctl("alloc", name, "9M", code=FULL)
        self.ctl("free", name, hex(offset))
        operations = self.json("log", name)["operations"]
        self.assertEqual([o["number"] for o in operations], list(range(1, len(operations) + 1)))
        done = [o for o in operations if o["what"] not in ("join", "leave")]
        self.assertEqual([(o["what"], o["errno"]) for o in done],
                         [("alloc", 0), ("publish", 0), ("alloc", errno.ENOSPC), ("free", 0)])
        self.assertEqual((done[0]["offset"], done[0]["size"]), (offset, 5008))
        self.assertEqual(done[3]["offset"], offset)
        for o in operations:
            self.assertAlmostEqual(o["time"], time.time(), delta=PATIENCE_S)
            self.assertGreater(o["session"], 0)
            self.assertGreater(o["pid"], 0)
        self.assertEqual(self.json("log", name)["operations"], operations)  # to read it is no operation
        self.assertRegex(self.ctl("log", name).out, r"(?m)^ *\d+ +\S+ \S+ +\d+ +\d+ +alloc +- +9M +No space left")
        self.refused("log", "nowhere", code=NO_POOL, says="nowhere")
        self.ctl("log", code=USAGE)

    def test_log_has_pages(self):
        name = self.pool("1M", "--lease", "off")  # a heap's blocks do not reach the daemon
        self.ctl("alloc", name, "10", "--count", "1200")
        allocs = [o for o in self.json("log", name)["operations"] if o["what"] == "alloc"]
        self.assertEqual(len({o["offset"] for o in allocs}), 1200)
        self.assertEqual({o["size"] for o in allocs}, {16})

    def test_resize_grows_as_far_as_it_may(self):
        name = self.pool("1M", "--max-size", "4M")
        self.assertEqual(self.json("resize", name, "2M")["total"], 2 << 20)
        self.assertEqual(self.json("stats", name)["total"], 2 << 20)
        self.refused("resize", name, "1M", code=OTHER, says="shrink|grow")
        self.refused("resize", name, "5M", code=FULL, says="max_size")
        self.assertEqual(self.json("stats", name)["total"], 2 << 20)
        self.refused("alloc", name, "3M", code=FULL, says=f"may have 4.00 MiB; 'mempoolctl resize {name} SIZE' does")
        error = self.refused("alloc", self.pool("1M"), "3M", code=FULL, says="not made to grow")
        self.assertNotIn("mempoolctl resize", error["message"])

    def test_destroy_warns_or_refuses_if_not_empty(self):
        name = self.pool()
        self.offsets("alloc", name, "1K")
        error = self.refused("destroy", name, "--if-empty", code=OTHER, says="if-empty")
        self.assertEqual(error["errno"], errno.ENOTEMPTY)
        result = self.ctl("destroy", name)
        self.assertRegex(result.err, r"\Amempoolctl: warning: [^\n]+\n\Z")
        self.ctl("stats", name, code=NO_POOL)
        name = self.pool()
        self.assertEqual(self.json("destroy", name, "--if-empty"), {"name": name, "warning": None})

    @unittest.skipUnless(os.getuid() == 0, "needs root, to be somebody else")
    def test_another_user_is_not_allowed(self):
        private, public = self.pool("64K"), self.pool("64K", "--mode", "0666")
        for args in (["stats", private], ["viz", private], ["alloc", private, "1"], ["destroy", private],
                     ["resize", public, "128K"], ["destroy", public]):
            with self.subTest(args=args):
                self.refused(*args, code=NOT_ALLOWED, says=re.escape(args[1]), user=65534)
        self.refused("create", "others", "--size", "64K", "--group", "root", code=USAGE, says="'root'.*choose another", user=65534)
        self.refused("create", "others", "--size", "64K", "--group", "daemon", code=NOT_ALLOWED, says="group", user=65534)
        self.assertEqual(len(self.json("alloc", public, "16", user=65534)["offsets"]), 1)
        pools = {p["name"]: p for p in self.json("stats", user=65534)["pools"]}
        self.assertEqual(pools[private]["error"]["errno"], errno.EACCES)
        self.assertGreaterEqual(set(pools[public]), STATS)


class Maps(Base):
    def test_viz_json_covers_the_pool_without_a_seam(self):
        name = self.pool("1M")
        offsets = self.offsets("alloc", name, "1000", "--count", "5")
        self.ctl("free", name, hex(offsets[2]))
        for args in (["viz", name, "--json"], ["viz", name, "--format", "json"]):
            picture = json.loads(self.ctl(*args).out)
            self.assertEqual((picture["name"], picture["total"]), (name, 1 << 20))
            at = picture["first"]
            for extent in picture["extents"]:
                self.assertEqual(extent["offset"], at)
                self.assertIn(extent["state"], ("free", "allocated", "leased"))
                at += extent["size"]
            self.assertEqual(at, picture["first"] + picture["total"])
            live = [e for e in picture["extents"] if e["state"] == "allocated"]
            self.assertEqual([e["offset"] for e in live], sorted(set(offsets) - {offsets[2]}))
            self.assertEqual({e["owner"] for e in live}, {"pool"})

    def test_viz_is_ascii_where_nothing_is_known_and_as_wide_as_asked(self):
        name = self.pool()
        self.offsets("alloc", name, "10K", "--count", "20")
        plain = self.ctl("viz", name).out
        self.assertTrue(plain.isascii())
        self.assertNotIn("\033", plain)
        self.assertIn(name, plain)
        unicode = self.ctl("viz", name, "--format", "unicode", "--width", "60").out
        self.assertFalse(unicode.isascii())
        widths = [max(map(len, self.ctl("viz", name, "--width", str(w)).out.splitlines())) for w in (60, 120)]
        self.assertLess(*widths)
        for width in (40, 80, 200):  # nothing is wider; but the pool's name cannot be broken
            for form in ("ascii", "unicode"):
                lines = self.ctl("viz", name, "--width", str(width), "--format", form).out.splitlines()
                lines = [line for line in lines if name not in line]
                self.assertLessEqual(max(map(len, lines)), width, lines)
        self.assertIn("\033[", self.ctl("viz", name, "--color", "always").out)

    def test_a_drawing_is_as_wide_as_so_many_columns(self):
        name = self.pool()
        for args, wide in (([], 960), (["--width", "40"], 480), (["--width", "160"], 1920)):
            svg = xml.etree.ElementTree.fromstring(self.ctl("viz", name, "--format", "svg", *args).out)
            _, _, w, h = map(float, svg.get("viewBox").split())
            self.assertEqual(int(svg.get("width")), wide)
            self.assertAlmostEqual(float(svg.get("height")) / wide, h / w, places=2)  # nothing is stretched
            self.assertIn(f"max-width:{wide}px", self.ctl("viz", name, "--format", "html", *args).out)

    def drawing(self, name, form):
        """The SVG as a tree, the HTML page's as well; any of it well-formed."""
        out = self.ctl("viz", name, "--format", form).out
        return xml.etree.ElementTree.fromstring(out.replace("<!DOCTYPE html>", "")), out

    def test_viz_draws_every_byte_as_svg_and_html(self):
        name = self.pool("1M")
        offsets = self.offsets("alloc", name, "1000", "--count", "50")
        self.ctl("free", name, *map(hex, offsets[10:20]))
        for form in ("svg", "html"):
            tree, out = self.drawing(name, form)
            sizes = {int(e.get("data-offset")): int(e.get("data-size")) for e in tree.iter() if e.get("data-size")}
            self.assertEqual(sum(sizes.values()), 1 << 20)
            picture = json.loads(self.ctl("viz", name, "--json").out)
            self.assertEqual(sizes, {e["offset"]: e["size"] for e in picture["extents"]})
            self.assertIn(f"Pool {name}", out)
            self.assertIn("the pool (published, or left by a session): 40 blocks", "".join(tree.itertext()))
            self.assertNotRegex(out.replace("http://www.w3.org/2000/svg", ""), r"https?:|<script")  # needs nothing else

    def test_viz_draws_a_pool_of_one_granule_and_a_full_one(self):
        for free in (True, False):
            name = self.pool("16")
            if not free:
                self.offsets("alloc", name, "16")
            tree, _ = self.drawing(name, "svg")
            sizes = [int(e.get("data-size")) for e in tree.iter() if e.get("data-size")]
            self.assertEqual(sizes, [16])

    def test_viz_lists_blocks_when_asked(self):
        name = self.pool("1M")
        offset, = self.offsets("alloc", name, "1000", "--name", "one")
        other, = self.offsets("alloc", name, "2000")
        for form in ("ascii", "unicode"):
            self.assertNotIn("blocks:", self.ctl("viz", name, "--format", form).out)
            out = self.ctl("viz", name, "--blocks", "--format", form).out
            self.assertRegex(out, rf'(?m)^ +{offset:#x} +1000 +pool, from session \d+, \d+ s, "one"$')
            self.assertRegex(out, rf"(?m)^ +{other:#x} +2000 +pool, from session \d+, \d+ s$")
        self.assertEqual(self.ctl("viz", name, "--blocks", "--json").out, self.ctl("viz", name, "--json").out)

    def test_viz_of_a_tebibyte_keeps_its_width(self):
        out = self.ctl("viz", self.pool("1T"), "--width", "80").out
        rows = re.findall(r"(?m)^ *0x[0-9a-f]+ \.+$", out)
        self.assertEqual((len(rows), {len(row) for row in rows[:-1]}), (8, {80}), out)

    def test_viz_writes_a_file_or_says_why_not(self):
        name = self.pool()
        path = os.path.join(daemon.dir.name, "map")
        self.assertEqual(self.ctl("viz", name, "-o", path).out, "")
        self.assertIn(name, open(path).read())
        self.ctl("viz", "no-such-pool", "-o", path, code=NO_POOL)
        self.assertIn(name, open(path).read())  # a wrong name empties no file
        self.refused("viz", name, "-o", "/nonexistent/map", code=OTHER, says="/nonexistent/map")

    def test_viz_on_a_terminal_has_colour_and_unicode_unless_told_not_to(self):
        name = self.pool()
        self.offsets("alloc", name, "100K")
        for extra, args, has_color, is_ascii in (({}, [], True, False),
                                                 ({"NO_COLOR": "1"}, [], False, False),
                                                 ({"NO_COLOR": "1"}, ["--color=always"], False, False),
                                                 ({"LC_ALL": "C"}, ["--color=never"], False, True),
                                                 ({"TERM": "dumb"}, [], False, False)):
            with self.subTest(extra=extra, args=args):
                terminal = Terminal("--socket", daemon.socket, "viz", name, *args, **extra)
                data = terminal.read()
                self.assertEqual(terminal.end(), DONE)
                self.assertEqual((b"\033[" in data, data.isascii()), (has_color, is_ascii), data)

    def test_output_that_cannot_be_written_is_a_failure(self):
        name = self.pool()
        for args in (["list"], ["stats", name], ["viz", name], ["stats", "--json"]):
            with open("/dev/full", "w") as full:
                process = subprocess.run([MEMPOOLCTL, "--socket", daemon.socket, *args], env=environment(), stdout=full,
                                         stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
            self.assertEqual(process.returncode, OTHER, args)
            self.assertIn("No space left", process.stderr)


class Checks(Base):
    def test_check_finds_nothing_in_a_sound_pool(self):
        name = self.pool("1M", "--guard")
        self.offsets("alloc", name, "100", "--count", "10")
        self.assertEqual(self.json("check", name), {"faults": []})
        self.assertEqual(self.json("check"), {"faults": []})
        self.assertIn("no faults", self.ctl("check").out)

    def damage(self, offset, at):
        """Overwrites a byte behind everybody's back: the object is the one with canaries before @offset."""
        for path in daemon.objects():
            with open(path, "r+b") as segment:
                segment.seek(offset - 16)
                if segment.read(16) == b"\xfd" * 16:
                    segment.seek(at)
                    segment.write(b"!")
                    return
        self.fail("no object has canaries there")

    def test_check_names_the_damaged_guard_and_free_tells_too(self):
        name = self.pool("64K", "--guard")
        offset, = self.offsets("alloc", name, "100")
        self.damage(offset, offset + 100)  # one byte over
        result = ctl("--socket", daemon.socket, "check", name, "--json")  # faults are findings, on stdout; no error
        self.assertEqual((result.code, result.err), (CORRUPT, ""), result)
        fault, = json.loads(result.out)["faults"]
        self.assertEqual((fault["pool"], fault["offset"]), (name, offset))
        self.assertTrue(fault["what"])
        text = ctl("--socket", daemon.socket, "check")
        self.assertEqual(text.code, CORRUPT)
        self.assertIn(hex(offset), text.out)
        error = json.loads(self.ctl("free", name, hex(offset), "--json", code=CORRUPT).err)["error"]
        self.assertEqual(error["errno"], errno.EBADMSG)
        self.assertEqual(self.json("check", name), {"faults": []})  # freed all the same


class Leases(Base):
    """Blocks that are slots of a leased slab: the same to everybody who asks."""

    N = 300  # so many that the tool's thread has a heap for most of them

    def setUp(self):
        self.name = self.pool("8M")
        self.blocks = self.offsets("alloc", self.name, "1000", "--count", str(self.N))
        self.assertEqual(len(set(self.blocks)), self.N)

    def picture(self, *args):
        picture = json.loads(self.ctl("viz", self.name, "--json", *args).out)
        at = picture["first"]
        for extent in picture["extents"]:
            self.assertEqual(extent["offset"], at)
            at += extent["size"]
        self.assertEqual(at, picture["first"] + picture["total"])
        return picture["extents"]

    def live(self):
        """Offsets of all blocks as the map has them, and how many of them are slots."""
        offsets, n_slots = [], 0
        for extent in self.picture("--blocks"):
            if extent["state"] == "allocated":
                offsets.append(extent["offset"])
            elif extent["state"] == "leased":
                slots = [b["offset"] for b in extent["live_slots"]]
                self.assertEqual(len(slots), extent["live"])
                self.assertLessEqual(extent["live"], extent["slots"])
                self.assertEqual({(o - extent["offset"]) % extent["slot_size"] for o in slots} - {0}, set())
                offsets += slots
                n_slots += len(slots)
        return sorted(offsets), n_slots

    def test_viz_and_stats_see_each_slot(self):
        live, n_slots = self.live()
        self.assertEqual(live, sorted(self.blocks))
        self.assertGreater(n_slots, self.N // 2)
        stats = self.json("stats", self.name)
        self.assertEqual(stats["used"] + stats["free"] + stats["leased_idle"], stats["total"])
        self.assertEqual((stats["allocations"], stats["gaps"] > 0), (self.N, True))
        for form in ("ascii", "unicode", "svg", "html"):
            self.assertTrue(self.ctl("viz", self.name, "--format", form).out)
        self.assertEqual(self.json("check", self.name), {"faults": []})

    def test_free_by_the_tool_works_on_slots(self):
        gone, left = self.blocks[1::2], self.blocks[::2]
        self.ctl("free", self.name, *map(hex, gone))
        self.assertEqual(self.live()[0], sorted(left))
        self.assertEqual(self.json("stats", self.name)["allocations"], len(left))
        slot = max(gone)
        self.refused("free", self.name, hex(slot), code=OTHER, says="free already|no block")
        self.refused("free", self.name, hex(slot + 16), code=OTHER, says="no block")
        self.ctl("free", self.name, *map(hex, left))
        stats = self.json("stats", self.name)
        self.assertEqual((stats["used"], stats["allocations"]), (0, 0))
        self.assertEqual(self.json("check", self.name), {"faults": []})
        everything, = self.offsets("alloc", self.name, "8M")  # nothing is kept back
        self.ctl("free", self.name, hex(everything))

    def test_names_stand_on_slots(self):
        for i in range(40):
            offset, = self.offsets("alloc", self.name, "1000", "--name", f"k{i}")
            self.assertEqual(self.offsets("find", self.name, f"k{i}"), [offset])
        self.assertEqual(self.json("check", self.name), {"faults": []})

    def test_check_and_log_tell_of_a_damaged_lease_segment(self):
        other = self.pool("1M")
        for path in daemon.objects():
            with open(path, "r+b") as segment:
                if segment.read(8) != b"memlases":
                    continue
                segment.seek(16 + 5 * 8)
                words_at, = struct.unpack("Q", segment.read(8))
                segment.seek(words_at)
                if segment.read(2) not in (b"\0\0", b""):  # it has slabs
                    segment.seek(words_at)
                    segment.write(b"\xff" * 8192)
        result = ctl("--socket", daemon.socket, "check", self.name, "--json")
        self.assertEqual((result.code, result.err), (CORRUPT, ""), result)
        what = [fault["what"] for fault in json.loads(result.out)["faults"]]
        self.assertIn("leases are damaged: a slot's word says what no word can", what)
        self.assertEqual(self.json("check", other), {"faults": []})
        with open(daemon.log.name) as log:
            self.assertEqual(log.read().count(f'error: pool "{self.name}" is damaged: '), 1)
        stats = self.json("stats", self.name)
        self.assertEqual(stats["used"] + stats["free"] + stats["leased_idle"], stats["total"])
        self.offsets("alloc", self.name, "1000")  # by request it serves on


daemon = Base.daemon = Daemon()
run(daemon)
