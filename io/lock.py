"""The lock of a run directory: two runs in one directory are refused, and a dead run leaves no lock behind.

The lock is the kernel's (flock on the file `.lock`), so it ends with the process that holds it, however that ends. The
text in the file (process, host, since when) only serves the message. On NFS the lock reaches other nodes when the
server's lock service runs (Linux translates flock to a POSIX lock there); file systems mounted with `nolock`, or
Lustre's `localflock`, protect against runs from the same node only.
"""

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path


class LockError(RuntimeError):
    """Another run holds the directory."""


class RunLock:
    """Holds `directory`/.lock on rank 0 from construction to release(), or to the end of the process.

    Collective; raises the same error on every rank (world.agree with LockError's sentence) where another run holds it.
    """

    def __init__(self, directory, world):
        self.path = Path(directory) / ".lock"
        self.descriptor = -1
        error = None
        if world.root:
            try:
                self._take()
            except (OSError, LockError) as caught:
                error = caught
        world.agree(error)

    def _take(self):
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise LockError(f"{self.path.parent}: another run is active in this directory ({holder})") from None
            raise
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        self.descriptor = descriptor

    def release(self):
        # the file stays: removing it would let a third run lock a new file while a second waits on this one
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()


def holder(directory) -> str | None:
    """Who holds the lock of a run directory, for a message; None where nobody does. Not collective."""
    try:
        descriptor = os.open(Path(directory) / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return _holder(os.pread(descriptor, 4096, 0))
    finally:
        os.close(descriptor)


def _holder(text: bytes) -> str:
    try:
        entry = json.loads(text)
        return f"process {entry['pid']} on {entry['host']} since {entry['since']}"
    except (ValueError, KeyError, TypeError):
        return "holder unknown"
