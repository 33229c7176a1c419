"""The files of a project (configuration, revision files, settings in ``env.py``), and a command's
options.

May import: ``errors``, ``counters``, ``_core``. May not import any other package of migrate_ext.
"""
