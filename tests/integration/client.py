#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second client, written from proto/mempool.proto and proto/README.md alone.

client.py MEMPOOLD FOLDER: FOLDER has mempool_pb2.py. Starts a daemon of its own, asks for everything that the contract
promises, and says what it did. Ends with 0 if all of it was true.
"""
import array
import errno
import fcntl
import glob
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, sys.argv[2])
import mempool_pb2 as wire  # noqa: E402


class Closed(Exception):
    """The daemon ended the connection; reply is its last word, with id 0, or None."""

    def __init__(self, reply):
        super().__init__(reply.message if reply else "without a word")
        self.reply = reply


class Refused(Exception):
    def __init__(self, reply):
        super().__init__(f"{errno.errorcode[-reply.status]}: {reply.message}")
        self.errno = -reply.status
        self.reply = reply


class Connection:
    """Frames, ids and descriptors; nothing of what a request means."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.buffer = b""
        self.fds = []
        self.last_id = 0

    def send(self, **op):
        self.last_id += 1
        message = wire.Request(id=self.last_id, **op).SerializeToString()
        self.socket.sendall(struct.pack("<I", len(message)) + message)
        return self.last_id

    def _fill(self, n):
        while len(self.buffer) < n:
            data, control, flags, _ = self.socket.recvmsg(
                65536, socket.CMSG_SPACE(8 * 4), socket.MSG_CMSG_CLOEXEC)
            assert not flags & socket.MSG_CTRUNC
            for level, kind, payload in control:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                self.fds += array.array("i", payload)
            if not data:
                raise Closed(None)
            self.buffer += data

    def receive(self, expected_id):
        self._fill(4)
        (n,) = struct.unpack("<I", self.buffer[:4])
        assert 1 <= n <= 1 << 20, n
        self._fill(4 + n)
        reply = wire.Reply.FromString(self.buffer[4:4 + n])
        self.buffer = self.buffer[4 + n:]
        if reply.id == 0:
            raise Closed(reply)
        assert reply.id == expected_id, (reply.id, expected_id)
        taken, self.fds = self.fds[:reply.n_fds], self.fds[reply.n_fds:]
        assert len(taken) == reply.n_fds
        if reply.status:
            assert reply.status < 0 and reply.message and not taken
            raise Refused(reply)
        return reply, taken

    def ask(self, **op):
        reply, fds = self.receive(self.send(**op))
        assert not fds
        return reply

    def assert_closed(self):
        try:
            self._fill(len(self.buffer) + 1)
        except (Closed, ConnectionResetError):
            return
        raise AssertionError("still open")


class Pool:
    """A mapped pool: offsets are indexes of the mapping."""

    def __init__(self, client, reply, fds):
        (self.fd,) = fds
        self.client = client
        self.id = reply.pool.info.pool
        self.info = reply.pool.info
        self.first = reply.pool.first
        self.segment_bytes = reply.pool.segment_bytes
        self.map()

    def map(self):
        """All that is there now: Python's mmap, unlike the system's, refuses to go beyond the end."""
        size = os.fstat(self.fd).st_size
        assert self.first + self.info.total <= size <= self.segment_bytes
        self.memory = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def alloc(self, size, **more):
        return self.client.ask(alloc=wire.Alloc(pool=self.id, size=size, **more)).block

    def free(self, offset):
        self.client.ask(free=wire.Free(pool=self.id, offset=offset))

    def stats(self):
        return self.client.ask(stats=wire.Stats(pool=self.id)).stats


class Client(Connection):
    """A session."""

    def __init__(self, path, **hello):
        super().__init__(path)
        reply, self.hello_fds = self.receive(
            self.send(hello=wire.Hello(version_min=1, version_max=1, **hello)))
        self.hello = reply.hello
        assert self.hello.version == 1 and self.hello.session > 0

    def create(self, **fields):
        return Pool(self, *self.receive(self.send(create_pool=wire.CreatePool(**fields))))

    def open(self, name):
        return Pool(self, *self.receive(self.send(open_pool=wire.OpenPool(name=name))))

    def goodbye(self):
        self.ask(goodbye=wire.Goodbye())
        self.assert_closed()
        self.socket.close()


def refused(error, call, *args, **more):
    try:
        call(*args, **more)
    except Refused as refusal:
        assert refusal.errno == error, f"{errno.errorcode[error]} expected, not {refusal}"
        return refusal.reply.message
    raise AssertionError(f"{errno.errorcode[error]} expected")


def closed(error, connection):
    try:
        connection.receive(0)
    except Closed as end:
        assert end.reply is None or end.reply.status == -error, end.reply
        connection.assert_closed()
        connection.socket.close()
        return end.reply
    raise AssertionError("still open")


# ---- what is promised ----

def session(path):
    client = Client(path, wants_liveness=True)
    assert client.hello.max_request_bytes == 65536 and client.hello.max_in_flight == 128
    (fd,) = client.hello_fds
    refused(errno.EINVAL, client.ask, liveness=wire.Liveness())
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)  # F_SETLK: a POSIX record lock on the first byte
    client.ask(liveness=wire.Liveness())
    client.ask(ping=wire.Ping())
    refused(errno.EINVAL, client.ask, hello=wire.Hello(version_min=1, version_max=1))
    refused(errno.EINVAL, client.ask)  # no operation
    number = client.hello.session
    client.goodbye()
    os.close(fd)

    other = Client(path)
    assert other.hello.session > number, "a session id came twice"
    other.goodbye()

    early = Connection(path)
    refused(errno.EINVAL, early.ask, ping=wire.Ping())
    early.socket.close()
    stranger = Connection(path)
    refused(errno.EPROTO, stranger.ask, hello=wire.Hello(version_min=2, version_max=9))
    stranger.assert_closed()
    print("session: hello, liveness lock, ping, goodbye; ids are not used again; version 2 is refused")


def blocks(path):
    a, b = Client(path), Client(path)
    pool = a.create(name=b"python", size=1 << 20, mode=0o600)
    assert pool.info.total == 1 << 20 and pool.first == 4096
    refused(errno.EEXIST, b.create, name=b"python", size=4096)
    refused(errno.EINVAL, b.create, name=b"no/name", size=4096)
    refused(errno.EINVAL, b.create, name=b"empty", size=0)
    assert "python" in refused(errno.ENOENT, b.open, b"pyton"), "the sentence suggests the nearest name"
    seen = b.open(b"python")

    block = pool.alloc(1000)
    assert block.offset >= pool.first and block.offset % 16 == 0 and block.size >= 1000
    text = bytes(range(250)) * 4
    pool.memory[block.offset:block.offset + 1000] = text
    assert seen.memory[block.offset:block.offset + 1000] == text, "two mappings of one pool differ"
    aligned = pool.alloc(100, alignment=65536)
    assert aligned.offset % 65536 == 0
    refused(errno.EINVAL, pool.alloc, 0)
    refused(errno.EINVAL, pool.alloc, 1, alignment=24)
    sentence = refused(errno.ENOSPC, pool.alloc, 2 << 20)
    pool.free(aligned.offset)
    refused(errno.EALREADY, pool.free, aligned.offset)
    refused(errno.EFAULT, pool.free, block.offset + 16)
    pool.free(0)
    print(f"blocks: written here, read there; a full pool says: {sentence}")

    # One after the other is executed, all at once are sent.
    ids = [a.send(alloc=wire.Alloc(pool=pool.id, size=64 + i)) for i in range(100)]
    offsets = [a.receive(i)[0].block.offset for i in ids]
    assert len(set(offsets)) == 100
    failed = refused(errno.EFAULT, a.ask, free_batch=wire.FreeBatch(pool=pool.id, offsets=offsets + [8]))
    assert "1 of 101" in failed, failed
    batch = a.ask(alloc_batch=wire.AllocBatch(pool=pool.id, sizes=[32] * 1000)).blocks.offsets
    assert len(set(batch)) == 1000
    refused(errno.EINVAL, a.ask, alloc_batch=wire.AllocBatch(pool=pool.id, sizes=[1] * (a.hello.max_batch + 1)))
    refused(errno.ENOSPC, a.ask, alloc_batch=wire.AllocBatch(pool=pool.id, sizes=[32, 1 << 21]))
    assert pool.stats().allocations == 1001
    a.ask(free_batch=wire.FreeBatch(pool=pool.id, offsets=batch))
    assert pool.stats().allocations == 1
    print("blocks: 100 pipelined, 1000 in a batch; a batch is all or none")

    grown = a.ask(realloc=wire.Realloc(pool=pool.id, offset=block.offset, size=5000)).block
    assert grown.old_size >= 1000
    if grown.moved:
        pool.memory[grown.offset:grown.offset + 1000] = pool.memory[block.offset:block.offset + 1000]
        pool.free(block.offset)
    assert pool.memory[grown.offset:grown.offset + 1000] == text

    # Handing over: the receiver takes; then it is the receiver's.
    refused(errno.EPERM, b.ask, retain=wire.Retain(pool=pool.id, offset=grown.offset))
    refused(errno.ESTALE, b.ask, take=wire.Take(pool=pool.id, offset=grown.offset, from_session=b.hello.session))
    b.ask(take=wire.Take(pool=pool.id, offset=grown.offset, from_session=a.hello.session))
    assert a.ask(inspect=wire.Inspect(pool=pool.id, offset=grown.offset)).block.owner == b.hello.session
    refused(errno.EPERM, a.ask, publish=wire.Publish(pool=pool.id, offset=grown.offset, name=b"key"))
    b.ask(publish=wire.Publish(pool=pool.id, offset=grown.offset, name=b"key"))
    refused(errno.ENOENT, a.ask, find=wire.Find(pool=pool.id, name=b"kex"))
    found = a.ask(find=wire.Find(pool=pool.id, name=b"key", retain=True)).block
    assert found.offset == grown.offset
    b.goodbye()
    assert pool.memory[found.offset:found.offset + 1000] == text
    pool.free(found.offset)  # the retain
    pool.free(found.offset)  # the pool's own hold, for this session has none left
    refused(errno.ENOENT, a.ask, find=wire.Find(pool=pool.id, name=b"key"))
    assert pool.stats().used == 0
    print("holds: taken, published, found and held across a session's end, freed")

    leak = Client(path)
    leaked = leak.open(b"python")
    leaked.alloc(4096)
    assert pool.stats().used >= 4096
    leak.goodbye()
    assert pool.stats().used == 0, "a session's end gives its blocks back"
    stranger = Client(path)
    refused(errno.EACCES, stranger.ask, alloc=wire.Alloc(pool=pool.id, size=1))
    stranger.goodbye()
    return a, pool


def figures(a, pool):
    offsets = [pool.alloc(10000).offset for _ in range(10)]
    for offset in offsets[::2]:
        pool.free(offset)
    stats = pool.stats()
    assert stats.used + stats.free + stats.leased_idle == stats.total == 1 << 20
    assert stats.allocations == 5 and stats.requested == 50000 and stats.sessions == 1
    assert abs(stats.fragmentation - (1 - stats.largest_free / stats.free)) < 1e-9

    picture = a.ask(visualize=wire.Visualize(pool=pool.id, cells=64, max_gaps=3, max_holders=4)).visualize
    assert len(picture.cell_used) == len(picture.cell_holder) <= 64
    assert sum(picture.cell_used) == picture.stats.used == stats.used
    assert len(picture.cell_idle) == len(picture.cell_used) and sum(picture.cell_idle) == stats.leased_idle
    assert len(picture.gaps) == 3 and picture.gaps_left_out == stats.gaps - 3
    assert picture.gaps[0].size >= picture.gaps[1].size >= picture.gaps[2].size
    assert [(h.session, h.blocks, h.pid) for h in picture.holders] == [(a.hello.session, 5, os.getpid())]
    row = "".join(" .:-=+*#"[min(7, 8 * used // picture.cell_bytes)] for used in picture.cell_used)
    print(f"map: [{row}]")
    refused(errno.EINVAL, a.ask, visualize=wire.Visualize(pool=pool.id, cells=0))

    at, end, n = pool.first, pool.first + stats.total, 0
    page = a.ask(list_extents=wire.ListExtents(pool=pool.id)).list_extents
    while True:
        for extent in page.extents:
            assert extent.offset == at, "a seam"
            at += extent.size
            n += extent.state == wire.EXTENT_ALLOCATED
        if not page.next:
            break
        page = a.ask(list_extents=wire.ListExtents(pool=pool.id, **{"from": page.next}, hint=page.hint)).list_extents
    assert at == end and n == 5
    assert not a.ask(check=wire.Check(pool=pool.id)).check.faults

    pools = a.ask(list_pools=wire.ListPools()).list_pools
    assert [p.name for p in pools.pools] == [b"python"] and not pools.more
    sessions = a.ask(list_sessions=wire.ListSessions(name=b"python")).list_sessions.sessions
    assert [(s.session, s.blocks, s.pool_name) for s in sessions] == [(a.hello.session, 5, b"python")]
    info = a.ask(daemon_info=wire.DaemonInfo()).daemon_info
    limits = {bytes(limit.name).decode(): limit.value for limit in info.limits}
    assert limits["request_frame"] == 65536 and limits["time_to_hello_ms"] == 30000
    assert limits["quota_pools"] == 256 and limits["total_bytes"] == 2**64 - 1 and len(limits) == 20
    assert sum(info.loop_connections) >= 1
    print(f"figures: {stats.used} of {stats.total} bytes used, fragmentation {stats.fragmentation:.3f}, "
          f"{len(limits)} limits; mempoold {info.version.decode()}")

    small = a.create(name=b"small", size=4096, max_size=65536)
    reply = a.ask(resize_pool=wire.ResizePool(pool=small.id, size=65536))
    assert reply.pool.info.total == 65536
    small.info = reply.pool.info
    small.map()
    last = small.alloc(65536)
    small.memory[last.offset:last.offset + 65536] = b"x" * 65536
    refused(errno.EINVAL, a.ask, resize_pool=wire.ResizePool(pool=small.id, size=4096))
    refused(errno.ENOSPC, a.ask, resize_pool=wire.ResizePool(pool=small.id, size=1 << 20))
    refused(errno.ENOTEMPTY, a.ask, destroy_pool=wire.DestroyPool(name=b"small", if_empty=True))
    warning = a.ask(destroy_pool=wire.DestroyPool(name=b"small")).message
    assert "64.0 KiB" in warning, warning
    refused(errno.ESTALE, small.alloc, 1)
    assert small.memory[last.offset:last.offset + 1] == b"x", "a mapping stays readable"
    print(f"pools: grown while mapped, destroyed with the warning: {warning}")


def resumption(path):
    """The connection breaks with requests in it; the session goes on, and nothing is done twice."""
    a = Client(path, wants_liveness=True)
    fcntl.lockf(a.hello_fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    a.ask(liveness=wire.Liveness())
    assert len(a.hello.token) == 16 and not a.hello.resumed
    pool = Pool(a, *a.receive(a.send(create_pool=wire.CreatePool(name=b"resumed", size=1 << 20))))
    first = a.send(alloc=wire.Alloc(pool=pool.id, size=100))
    for i in range(9):
        a.send(alloc=wire.Alloc(pool=pool.id, size=100))
    a.socket.shutdown(socket.SHUT_WR)  # the replies are never read
    again = Client(path, resume_session=a.hello.session, resume_token=a.hello.token)
    assert again.hello.resumed and again.hello.session == a.hello.session
    assert not again.hello.HasField("token") and not again.hello_fds
    again.last_id = first - 1
    offsets = {again.ask(alloc=wire.Alloc(pool=pool.id, size=100)).block.offset for i in range(10)}
    pool.client = again
    assert len(offsets) == 10 and pool.stats().allocations == 10
    operations = again.ask(log=wire.Log(pool=pool.id)).log.operations
    assert [o.what for o in operations] == ["join"] + 10 * ["alloc"], operations
    again.goodbye()
    for session, token in ((a.hello.session, a.hello.token), (a.hello.session, b"x" * 16), (1 << 40, b"x")):
        refused(errno.ESTALE, Client, path, resume_session=session, resume_token=token)
    print("resumption: same session, each request done once; ended, it is no more")


def violations(path):
    for message, error in ((b"\x08", errno.EBADMSG), (wire.Request(id=0, ping=wire.Ping()).SerializeToString(), errno.EINVAL)):
        connection = Client(path)
        connection.socket.sendall(struct.pack("<I", len(message)) + message)
        assert closed(error, connection)
    for length in (0, 65537, 2**31, 2**32 - 1):
        connection = Client(path)
        connection.socket.sendall(struct.pack("<I", length))
        closed(errno.EBADMSG if length == 0 else errno.EMSGSIZE, connection)
    repeated = Client(path)
    repeated.last_id = 0
    repeated.send(ping=wire.Ping())
    assert closed(errno.EINVAL, repeated)
    print("violations: bad frames, lengths and ids end the connection, with a sentence where one can be sent")


# ---- a daemon of our own ----

def main():
    with tempfile.TemporaryDirectory(prefix="mempool-test.") as folder:
        path, instance = folder + "/socket", f"python-{os.getpid()}"
        daemon = subprocess.Popen([sys.argv[1], "--socket", path, "--instance", instance, "--threads", "2", "--ephemeral"],
                                  stderr=subprocess.PIPE, text=True)
        try:
            lines = []
            for line in daemon.stderr:
                lines.append(line)
                if "is ready" in line:
                    break
            else:
                sys.exit("mempoold does not start:\n" + "".join(lines))
            session(path)
            a, pool = blocks(path)
            figures(a, pool)
            resumption(path)
            violations(path)
            a.goodbye()
        finally:
            daemon.send_signal(signal.SIGTERM)
            _, log = daemon.communicate(timeout=20)
        if daemon.returncode:
            sys.exit(f"mempoold ended with {daemon.returncode}:\n{log}")
        left = glob.glob(f"/dev/shm/mempool.{instance}*") + glob.glob(path)
        assert not left, left
    print("all true")


main()
