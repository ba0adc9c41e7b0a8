# SPDX-License-Identifier: MIT
"""What tests of mempoolctl are made of: a real daemon, the tool as a process, and what every answer of it has to be like.

A test is run as TEST MEMPOOLD MEMPOOLCTL [NAME…], and ends with run().
"""
import errno
import fcntl
import glob
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

MEMPOOLD, MEMPOOLCTL = sys.argv[1], sys.argv[2]
PATIENCE_S = 60  # generous for a sanitizer on a busy machine
DONE, OTHER, USAGE, NO_DAEMON, NO_POOL, FULL, NOT_ALLOWED, CORRUPT, TIMED_OUT = 0, 1, 2, 3, 4, 5, 6, 7, 124


class Result:
    def __init__(self, args, process):
        self.args, self.code, self.out, self.err = args, process.returncode, process.stdout, process.stderr

    def __repr__(self):
        return f"mempoolctl {' '.join(self.args)}: exit {self.code}\n{self.out}{self.err}"


def environment(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MEMPOOL", "XDG", "LC_", "LANG", "NO_COLOR", "COLUMNS"))}
    return {**env, "LC_ALL": "C.UTF-8", "TERM": "xterm", **extra}


checked_for_leaks = set()


def leak_check(args, outcome):
    """To look for leaks takes a sanitized command longer than all else it does: once for each command with these options and this outcome."""
    shape = (outcome, *(word for word in args if word.startswith("-") or word.isalpha()))
    if shape not in checked_for_leaks:
        checked_for_leaks.add(shape)
        return {}
    return {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def ctl(*args, user=None, outcome=None, **extra):
    """Runs mempoolctl; what it prints is text, and no command leaves a line of noise."""
    env = environment(**leak_check(args, outcome), **extra)
    process = subprocess.run([MEMPOOLCTL, *args], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=PATIENCE_S, user=user, group=user, extra_groups=[] if user else None)
    return Result(args, process)


class Daemon:
    """A folder, a socket and an instance of its own; start() runs mempoold there until stop() or kill()."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="mempool-ctl-")
        os.chmod(self.dir.name, 0o755)
        self.socket = os.path.join(self.dir.name, "sock")
        self.instance = f"test-ctl-{os.getpid()}-{os.path.basename(self.dir.name)}"
        self.log = open(os.path.join(self.dir.name, "log"), "w+")
        self.start()

    def start(self):
        self.process = subprocess.Popen([MEMPOOLD, "--socket", self.socket, "--instance", self.instance, "--ephemeral"],
                                        stdin=subprocess.DEVNULL, stderr=self.log)
        end = time.monotonic() + PATIENCE_S
        while True:  # connect() itself tells when the daemon is there; the pause only spares the processor
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(self.socket)
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise SystemExit("mempoold did not start:\n" + self.read_log())
                select.select([], [], [], 0.01)

    def read_log(self):
        with open(self.log.name) as log:
            return log.read()

    def objects(self):
        return glob.glob(f"/dev/shm/mempool.{self.instance}.*")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def discard(self):
        """What is left of it, however the test ended."""
        self.stop()
        for path in self.objects() + glob.glob(f"/dev/shm/mempool.{self.instance}"):
            os.unlink(path)
        self.log.close()
        self.dir.cleanup()


class Terminal:
    """mempoolctl on a terminal of 100 columns; read() until it ends."""

    def __init__(self, *args, **extra):
        pid, self.fd = pty.fork()
        if not pid:
            os.execve(MEMPOOLCTL, [MEMPOOLCTL, *args], environment(**extra))
        self.pid = pid
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

    def read(self, until=None):
        data = b""
        end = time.monotonic() + PATIENCE_S
        while until is None or until not in data:
            if time.monotonic() > end:
                raise AssertionError(f"no {until!r} in {data[-4096:]!r}")
            if not select.select([self.fd], [], [], PATIENCE_S)[0]:
                raise AssertionError(f"silent after {data!r}")
            try:
                part = os.read(self.fd, 65536)
            except OSError as error:  # how a pty says that the other side is closed
                if error.errno != errno.EIO:
                    raise
                part = b""
            if not part:
                break
            data += part
        return data

    def end(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


class Base(unittest.TestCase):
    daemon = None  # that commands ask
    n_pools = 0

    def ctl(self, *args, code=DONE, **options):
        result = ctl("--socket", self.daemon.socket, *args, outcome=code, **options)
        self.assertEqual(result.code, code, result)
        if code:
            self.assert_one_line(result)
        return result

    def json(self, *args, **options):
        result = self.ctl(*args, "--json", **options)
        self.assertEqual(result.out.count("\n"), 1, result)
        return json.loads(result.out)

    def assert_one_line(self, result):
        self.assertRegex(result.err, r"\A[^\n]+\n\Z", result)

    def refused(self, *args, code, says, **options):
        """The same failure as text and as JSON; @says is a pattern of its line."""
        result = self.ctl(*args, code=code, **options)
        self.assertTrue(result.err.startswith("mempoolctl: "), result)
        self.assertRegex(result.err, says)
        result = self.ctl("--json", *args, code=code, **options)
        error = json.loads(result.err)["error"]
        self.assertEqual(set(error), {"errno", "message"})
        self.assertGreater(error["errno"], 0)
        self.assertRegex(error["message"], says)
        return error

    def pool(self, size="1M", *args):
        Base.n_pools += 1
        name = f"p{Base.n_pools}.{self._testMethodName[5:][:40]}"
        self.ctl("create", name, "--size", size, *args)
        self.addCleanup(ctl, "--socket", self.daemon.socket, "destroy", name)
        return name

    def offsets(self, *args):
        return self.json(*args)["offsets"]


def run(daemon=None):
    """All tests of the program, then the end of the @daemon that they share. Never returns."""
    code, left = 0, []
    try:
        program = unittest.main(argv=[sys.argv[0], *sys.argv[3:]], exit=False, verbosity=2)
    finally:
        if daemon:
            code = daemon.stop()
            left = daemon.objects()
    if code or left:
        print(f"mempoold ended with {code} and left {left}\n" + daemon.read_log(), file=sys.stderr)
    sys.exit(0 if program.result.wasSuccessful() and not code and not left else 1)
