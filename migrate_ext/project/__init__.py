"""The files of a project: configuration, revision files, what ``env.py`` says, and options as values.

May import: ``errors``, ``counters``, ``_core``. May not import any other package of migrate_ext.
"""
