# SPDX-License-Identifier: GPL-2.0
"""What a kernel made of its PCI devices, as text to compare with what another one did."""

from __future__ import annotations

from . import config
from .machine import Machine

# Of these, files whose content is compared; of the others it is that they are there.
SHOWN = ("class", "irq", "resource", "power/control", "power/wakeup", "d3cold_allowed",
         "broken_parity_status", "reset_method", "max_link_speed", "current_link_speed")
OURS = "liveupdate"


def functions(machine: Machine) -> list[str]:
    """Every function that this kernel has found."""
    return machine.sh("ls /sys/bus/pci/devices").out.split()


def look(machine: Machine) -> dict[str, str]:
    """Config spaces, resources, interrupts, wakeup settings, sysfs and events; all by name.

    Functions without a driver are enabled, so that their INTx is routed.
    """
    found: dict[str, str] = {}
    bdfs = functions(machine)
    for bdf in bdfs:
        found[f"{bdf} config space"] = config.read(machine, bdf).raw.hex()
    machine.sh("for d in /sys/bus/pci/devices/*; do "
               "test -e $d/driver || echo 1 >$d/enable || true; done 2>/dev/null")
    for bdf in bdfs:
        where = f"/sys/bus/pci/devices/{bdf}"
        names = machine.sh(f"cd {where}/ && find . -not -path './{OURS}*' -not -path './0000:*' "
                           "-not -path './pci0*'").out.split()
        found.update({f"{bdf} {name[2:]}": "" for name in names if name != "."})
        for name in SHOWN:
            if f"{bdf} {name}" in found:
                found[f"{bdf} {name}"] = machine.run(f"cat {where}/{name}").out.strip()
    events = machine.json("uevents " + " ".join(f"/sys/bus/pci/devices/{bdf}/uevent"
                                                for bdf in bdfs))["events"]
    for bdf, event in zip(bdfs, events):
        found[f"{bdf} event"] = " ".join(word for word in event
                                         if not word.startswith("SEQNUM="))
    # But for where the kernel and its initrd are in memory; and SeaBIOS's data at 0xe8000 begin as
    # an adapter's ROM does, and have its checksum in one boot of 256.
    for name in ("iomem", "ioports"):
        found[name] = machine.sh("grep -v -e Kernel -e '^ .*: reserved' -e 'Adapter ROM' "
                                 f"/proc/{name}").out
    found["interrupts"] = machine.sh("sed -n 's/^ *\\([0-9]*:\\).*[0-9] *\\([A-Z].*\\)/\\1 \\2/p' "
                                     "/proc/interrupts").out
    return found


def differences(ours: dict[str, str], stocks: dict[str, str]) -> dict[str, str]:
    """What is there in one only, or not the same in both."""
    told = {}
    for name in sorted(ours.keys() | stocks.keys()):
        if name not in stocks:
            told[name] = "only ours"
        elif name not in ours:
            told[name] = "only stock"
        elif ours[name] != stocks[name]:
            told[name] = f"{ours[name]!r}, stock {stocks[name]!r}"
    return told
