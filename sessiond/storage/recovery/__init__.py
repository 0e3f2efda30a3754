"""What a start does with sessions that are not known to be on disk: file and rows come together again.

The one rule: what was committed is taken from whichever of the two has it; what fits nowhere is kept aside.
"""
