"""Session files that come from elsewhere, in both versions of the format.

The one rule: whatever a file holds, it becomes a session of whole lines, or is refused and leaves nothing.
"""
