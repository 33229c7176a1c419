"""Sends SQL: on the driver's connection in batches, or on a session of our own.

May import: ``project`` and what lies below it. May not import ``locking`` and what lies above it.
"""
