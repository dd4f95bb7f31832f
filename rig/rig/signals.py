# SPDX-License-Identifier: GPL-2.0
"""A program that is disturbed all the time."""

from __future__ import annotations

import signal
import threading
import time


class Signals:
    """One each millisecond, in the thread that calls the library."""

    def __enter__(self) -> None:
        self.count = 0
        self.before = signal.signal(signal.SIGUSR1, self._count)
        signal.siginterrupt(signal.SIGUSR1, True)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._send, args=(threading.get_ident(),))
        self.thread.start()

    def _count(self, *_: object) -> None:
        self.count += 1

    def _send(self, thread: int) -> None:
        while not self.stop.is_set():
            signal.pthread_kill(thread, signal.SIGUSR1)
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        signal.signal(signal.SIGUSR1, self.before)
