"""Uses a compiled plan: whether it may be used, and running it on a session of our own.

May import: ``locking`` and what lies below it. May not import ``direct`` and what lies above it.
"""
