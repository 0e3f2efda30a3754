"""What holds files and rows against each other, and the words for what is wrong.

The one rule: nothing is changed.
"""
