"""The subcommands of `sessiond` that look after a data directory while no daemon has it.

The one rule: `cli` imports one when it is called, so that the others stay quick.
"""
