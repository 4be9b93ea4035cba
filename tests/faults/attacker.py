"""Exchanges what stands in an outbox as fast as it can: python -m tests.faults.attacker OUTBOX SECRETS SEED [ONLY...].

SECRETS is a folder of somebody else's. It goes on until it is killed; on standard output it counts its exchanges.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time

NAMES = ("a.txt", "b.txt", "c.txt")
WHOLE = 20_000  # bytes of an honest file, written in pieces


def honest(path: str, chance: random.Random) -> None:
    """Written slowly under its own name: whole only once it is closed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(b"<")
        file.flush()
        for _ in range(chance.randrange(1, 4)):
            file.write(b"inside " * 10)
            file.flush()
            time.sleep(0.0002)  # others write slowly too
        file.write(b"." * (WHOLE - file.tell() - 1) + b">")


def renamed(path: str, chance: random.Random) -> None:
    """As the careful do it."""
    aside = os.path.join(os.path.dirname(path), ".aside")
    honest(aside, chance)
    os.rename(aside, path)


def put(path: str, make) -> None:
    """Something else in the file's place, in one step."""
    aside = os.path.join(os.path.dirname(path), ".evil")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside)
    make(aside)
    os.rename(aside, path)


def main() -> None:
    outbox, secrets, chance = sys.argv[1], sys.argv[2], random.Random(int(sys.argv[3]))
    moved = outbox + ".moved"
    kinds = [int(word) for word in sys.argv[4:]] or list(range(8))
    print("ready", flush=True)
    for count in range(10_000_000):
        path = os.path.join(outbox, chance.choice(NAMES))
        secret = os.path.join(secrets, os.path.basename(path))
        with contextlib.suppress(OSError):
            match chance.choice(kinds):
                case 0 | 1:
                    honest(path, chance)
                case 2:
                    renamed(path, chance)
                case 3 | 4:
                    put(path, lambda aside, secret=secret: os.symlink(secret, aside))
                case 5:
                    put(path, lambda aside, secret=secret: os.link(secret, aside))
                case 6:
                    put(path, os.mkfifo)
                case 7:  # the whole folder is a link for a moment
                    os.rename(outbox, moved)
                    os.symlink(secrets, outbox)
                    os.unlink(outbox)
                    os.rename(moved, outbox)
        if count % 100 == 0:
            print(count, flush=True)


if __name__ == "__main__":
    main()
