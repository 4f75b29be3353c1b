"""The agent's part of a node's CNI chain, in which `cext/cni` (built as mesh/cni/seine-cni) comes last.

question   what the plugin sends -> values; pure
conflist   our entry in a network configuration: put in, found, taken out; pure
rules      what the plugin goes by while the agent is away; pure
chain      binary and entry on the node's disk, in the order that never leaves one without the other
door       the socket that the plugin asks
"""

from pathlib import Path

PLUGIN = Path(__file__).with_name("seine-cni")  # static; made by setup.py
