"""The lock of a run, its limits, and what became of a run that failed.

May import: ``execution`` and what lies below it. May not import ``plans`` and what lies above it.
"""
