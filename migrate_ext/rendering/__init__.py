"""The SQL of migrations without running it: ``compile``, and ``upgrade --plan``.

May import: ``dropin`` and what lies below it. May not import ``testing`` and what lies above it.
"""
