"""The lock of a run, its limits, and the outcome of a failed run.

May import: ``execution`` and what lies below it. May not import ``plans`` and what lies above it.
"""
