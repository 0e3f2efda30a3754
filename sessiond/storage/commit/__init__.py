"""What happens inside one commit: operations, the transaction that applies them, the rows that come of it.

The one rule: no file is touched here; what is decided is decided by the rows.
"""
