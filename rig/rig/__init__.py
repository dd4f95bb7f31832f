# SPDX-License-Identifier: GPL-2.0
"""The host side of the VM tests: machines, topologies, frames and witnesses."""
