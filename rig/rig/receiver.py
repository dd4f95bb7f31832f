# SPDX-License-Identifier: GPL-2.0
"""The user-space NIC driver in the guest (the e1000e_rx program), told what to do from here."""

from __future__ import annotations

import time
from typing import Any

from . import witness
from .machine import Machine, MachineError, Result

QUIET = 2.0     # seconds without a frame after which none is expected any more


class Receiver:
    """One driver process for one NIC. It survives a live update as its session does."""

    def __init__(self, machine: Machine, nic: str = "nic0", name: str | None = None) -> None:
        self.machine = machine
        self.nic = nic
        self.bdf = machine.topology.bdf[nic]
        self.name = name or f"rx-{nic}"
        self.sender = machine.senders[nic]
        self.ready: dict[str, Any] = {}

    def bind(self) -> None:
        """Give the device to vfio-pci; both kernels need that."""
        self.machine.json(f"pci_cfg bind {self.bdf}")

    def command(self, verb: str, *options: str) -> str:
        """What starts the driver, in the background."""
        return f"e1000e_rx {verb} --name {self.name} --background {' '.join(options)}"

    def start(self, *options: str, ring: int = 16384, bind: bool = True) -> dict[str, Any]:
        """Stage one: set the NIC up and receive."""
        if bind:
            self.bind()
        self.ready = self.machine.json(self.command("start", f"--bdf {self.bdf} --ring {ring}",
                                                    *options))
        return self.ready

    def resume(self, *options: str, bind: bool = True) -> dict[str, Any]:
        """Stage two: take the memory and the device out of the session and go on."""
        if bind:
            self.bind()
        self.ready = self.machine.json(self.command("resume", *options))
        return self.ready

    def try_resume(self, *options: str) -> Result:
        """The same when failing is what is expected."""
        return self.machine.run(self.command("resume", *options))

    def ctl(self, command: str, wait: int = 60) -> dict[str, Any]:
        """A control command that must work."""
        answer = self.try_ctl(command, wait)
        if answer["rc"] < 0:
            raise MachineError(f"{self.name}: {command}: {answer}")
        return answer

    def try_ctl(self, command: str, wait: int = 60) -> dict[str, Any]:
        """A control command, whatever comes of it."""
        return self.machine.run(f"e1000e_rx ctl {self.name} --wait {wait} {command}").json()

    def preserve(self) -> None:
        """Put the memory and the device into the session."""
        self.ctl("preserve")

    def stats(self) -> dict[str, Any]:
        """The driver's own count of frames."""
        return self.ctl("stats")

    def settle(self) -> tuple[int, dict[str, Any]]:
        """Stop the frames, wait until all arrived or no more come; what was sent, and the count."""
        sent = self.sender.stop()
        stats = self.stats()
        since = time.monotonic()
        while stats["distinct"] != sent and time.monotonic() < since + QUIET:
            time.sleep(0.1)
            before, stats = stats, self.stats()
            if stats["distinct"] != before["distinct"]:
                since = time.monotonic()
        return sent, stats

    def receives(self, limit: float = 30.0) -> bool:
        """Do frames reach memory from now on? `limit` is for the host to find time for it."""
        began = time.time()
        while time.time() < began + limit:
            time.sleep(0.1)
            if any(t > began for t in witness.read(self.machine).dma(ring=self.ring)):
                return True
        return False

    def frames(self) -> list[tuple[int, int, int]]:
        """Every frame received, in order: sequence number, host time at sending, incarnation."""
        frames: list[tuple[int, int, int]] = []
        while True:
            part = self.ctl(f"log {len(frames)}")["frames"]
            if not part:
                return frames
            frames += [(seq, time, incarnation) for seq, time, incarnation in part]

    @property
    def ring(self) -> range:
        """Where the descriptors are in physical memory."""
        first = int(self.ready["ring_pa"], 16)
        return range(first, first + 16 * self.ready["ring_size"])

    def config(self) -> dict[str, Any]:
        """The device's config space and what the kernel makes of it."""
        return self.machine.json(f"pci_cfg dump {self.bdf}")
