"""The pytest plugin: a migrated database for every test, and the tests every migration folder should have.

docs/testing.md says how it is used, docs/design.md how it works. Importing this package imports nothing else.
"""
