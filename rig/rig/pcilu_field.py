# SPDX-License-Identifier: GPL-2.0
"""What the field scenarios of pcilu have in common: a preflight, and its verdicts by name."""

from __future__ import annotations

from typing import Any

from .pcilu_host import Host, bzimage, checked

GOOD = "root=/dev/sda1 ro kho=on liveupdate=on panic=10"


class Preflight:
    """One preflight of an image on a host."""

    def __init__(self, host: Host, *argv: str, data: bytes | None = None,
                 cmdline: str | None = GOOD, name: str = "vmlinuz-next") -> None:
        self.path = host.write(f"boot/{name}", bzimage() if data is None else data)
        line = [] if cmdline is None else ["--cmdline", cmdline]
        out = host.pcilu("preflight", "--json", "--kernel", str(self.path), *line, *argv)
        assert out.returncode in (0, 1), (out.returncode, out.stderr)
        self.document: dict[str, Any] = checked(out.stdout)
        assert self.document["passed"] == (out.returncode == 0)
        self.passed = self.document["passed"]

    def of(self, verdict: str) -> set[str]:
        return {c["check"] for c in self.document["checks"] if c["verdict"] == verdict}

    @property
    def failed(self) -> set[str]:
        return self.of("fail")

    @property
    def warned(self) -> set[str]:
        return self.of("warn")

    def text(self, check: str) -> str:
        """All that a check says, with the remedies."""
        return "\n".join(f"{c['text']}; {c['remedy'] or ''}" for c in self.document["checks"]
                         if c["check"] == check)
