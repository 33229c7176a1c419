"""The pytest plugin: a migrated database for every test, and the tests every migration folder should have.

docs/testing.md describes its use, docs/design.md its design. Importing this package imports nothing else.
"""
