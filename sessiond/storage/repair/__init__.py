"""What `sessiond rebuild` does: sessions mended one by one, or the whole database built anew.

The one rule: what is replaced is in the quarantine before.
"""
