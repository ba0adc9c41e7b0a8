#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mempoolctl about a pool whose ledger a start could not read: what it says, and the two ways out.

test_ctl_lost.py MEMPOOLD MEMPOOLCTL [TEST…]: starts daemons of its own. Ends with 0 if all of it was true.
"""
import errno
import os
import re

from ctl_world import CORRUPT, DONE, OTHER, Base, Daemon, run

MAGIC = b"memldger"


class Lost(Base):
    def setUp(self):
        """Pools "good" and "bad", with a block each; a kill, after which the ledger of "bad" is none, and a start."""
        self.daemon = Daemon()
        self.addCleanup(self.daemon.discard)
        for name in ("good", "bad"):
            self.ctl("create", name, "--size", "1M")
            self.ctl("alloc", name, "10K", "--name", "kept")
        self.kept = self.json("find", "bad", "kept")
        self.daemon.kill()
        self.ledger, = (path for path in self.daemon.objects() if self.is_ledger_of(path, b"bad"))
        self.write_magic(b"somebody")
        self.objects = sorted(self.daemon.objects())
        self.daemon.start()

    def is_ledger_of(self, path, name):
        with open(path, "rb") as ledger:
            head = ledger.read(4096)
        return head.startswith(MAGIC) and b"\0" + name + b"\0" in head  # the random part of an object's name may end in "bad", too

    def write_magic(self, magic):
        with open(self.ledger, "r+b") as ledger:
            ledger.write(magic)

    def last_recovery(self):
        return self.json("stats")["daemon"]["last_recoveries"][0]

    def test_lost_pool_is_named_in_each_refusal_and_stays_as_it_is(self):
        says = r'there is a pool "bad", but it could not be recovered.*log says why.*destroy it by its name'
        for command in (["alloc", "bad", "1K"], ["stats", "bad"], ["check", "bad"], ["viz", "bad"], ["log", "bad"],
                        ["resize", "bad", "2M"], ["sessions", "bad"], ["find", "bad", "kept"], ["destroy", "bad", "--if-empty"]):
            with self.subTest(command=command):
                self.assertEqual(self.refused(*command, code=CORRUPT, says=says)["errno"], errno.EBADMSG)
        error = self.refused("create", "bad", "--size", "1M", code=OTHER,
                             says=r'creating pool "bad".*of that name could not be recovered.*choose another name')
        self.assertEqual(error["errno"], errno.EEXIST)
        self.assertEqual([pool["name"] for pool in self.json("list")["pools"]], ["good"])
        self.ctl("find", "good", "kept")
        self.assertEqual(sorted(self.daemon.objects()), self.objects)

    def test_lost_pool_is_counted_in_stats_and_told_in_the_log(self):
        recovery = self.last_recovery()
        self.assertEqual((recovery["pools"], recovery["blocks"], recovery["refused"]), (1, 1, 1))
        self.assertRegex(self.ctl("stats").out, r"after a kill: 1 pool, 1 block, 10K, 0 sessions, .*; 1 pool could not be recovered\n")
        self.assertRegex(self.daemon.read_log(), rf'pool "bad" cannot be recovered: .*{re.escape(self.ledger)}.*mempoolctl destroy bad\n')

    def test_lost_pool_is_told_of_where_there_is_no_other(self):
        self.ctl("destroy", "good")
        self.assertRegex(self.ctl("list").out, r"\Ano pools but 1 that could not be recovered .* its log names it.*\n\Z")
        self.assertEqual(self.json("list"), {"pools": []})

    def test_lost_pool_is_destroyed_by_its_name(self):
        if os.geteuid() == 0:  # another user needs root to become one
            os.chmod(self.daemon.socket, 0o666)
            self.refused("destroy", "bad", code=CORRUPT, says="root or the daemon's user", user=65534)
            self.assertEqual(sorted(self.daemon.objects()), self.objects)
        self.assertEqual(self.ctl("destroy", "bad").out, "destroyed 'bad'\n")
        self.assertEqual(len(self.daemon.objects()), len(self.objects) - 3)  # data, ledger, leases
        self.assertNotIn(self.ledger, self.daemon.objects())
        self.ctl("create", "bad", "--size", "64K")
        self.assertEqual(self.json("stats", "bad")["allocations"], 0)
        self.daemon.kill()
        self.daemon.start()
        self.assertEqual(self.last_recovery()["refused"], 0)
        self.assertEqual({pool["name"] for pool in self.json("list")["pools"]}, {"good", "bad"})

    def test_lost_pool_comes_back_when_it_is_mended(self):
        self.ctl("create", "other", "--size", "64K")
        self.daemon.kill()
        self.write_magic(MAGIC)
        self.daemon.start()
        self.assertEqual(self.last_recovery()["refused"], 0)
        self.assertEqual(self.json("find", "bad", "kept"), self.kept)
        self.assertEqual({pool["name"] for pool in self.json("list")["pools"]}, {"good", "bad", "other"})
        self.assertEqual(self.json("check"), {"faults": []})

    def tearDown(self):
        self.assertEqual(self.daemon.stop(), DONE)
        self.assertEqual(self.daemon.objects(), [])  # it is ephemeral: what is lost goes, too


run()
