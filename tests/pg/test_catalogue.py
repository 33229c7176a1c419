"""The pytest plugin's snapshot of a catalogue, when only changes are read again, equals one that reads everything."""

from __future__ import annotations

import time

import psycopg

from migrate_ext.testing import catalogue
from migrate_ext.testing.catalogue import Catalogue, difference

# Each changes a line: of the object it names, or of others that only depend on it.
CHANGES = """
CREATE TABLE a (id int PRIMARY KEY, name text DEFAULT 'x', n int CHECK (n > 0))
CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a (id), CONSTRAINT one UNIQUE (a))
CREATE INDEX b_a ON b ((a + 1)) WHERE a > 0
COMMENT ON INDEX b_a IS 'of the index'
COMMENT ON COLUMN a.name IS 'of the column'
COMMENT ON CONSTRAINT one ON b IS 'of the constraint'
ALTER TABLE b RENAME TO c
ALTER TABLE a RENAME COLUMN id TO key
ALTER INDEX b_a RENAME TO c_a
ALTER SEQUENCE b_id_seq RENAME TO c_id_seq
ALTER SEQUENCE c_id_seq OWNED BY NONE
ALTER SEQUENCE c_id_seq OWNED BY c.id
ALTER SEQUENCE c_id_seq INCREMENT 5
CREATE TYPE mood AS ENUM ('sad', 'ok')
ALTER TABLE a ADD COLUMN mood mood, ADD COLUMN moods mood[] DEFAULT '{sad}'
ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'
ALTER TYPE mood ADD VALUE 'happy' BEFORE 'fine'
ALTER TYPE mood RENAME TO feeling
CREATE VIEW v AS SELECT key, mood FROM a
CREATE VIEW w AS SELECT key FROM v
CREATE MATERIALIZED VIEW m AS SELECT key FROM w
ALTER TABLE a RENAME COLUMN mood TO felt
ALTER VIEW v RENAME TO vv
ALTER VIEW vv RENAME COLUMN key TO k
CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x'
CREATE INDEX a_f ON a (f(n))
ALTER TABLE a ADD COLUMN made int DEFAULT f(1), ADD CHECK (f(n) > 0)
ALTER FUNCTION f RENAME TO g
CREATE OR REPLACE FUNCTION g(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + 1'
CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
CREATE TRIGGER watch BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION t()
ALTER FUNCTION t RENAME TO u
ALTER TABLE a DISABLE TRIGGER watch
DROP TRIGGER watch ON a
ALTER TABLE a ENABLE ROW LEVEL SECURITY
CREATE POLICY p ON a USING (EXISTS (SELECT FROM c WHERE c.id = a.key))
ALTER TABLE c RENAME COLUMN id TO number
ALTER POLICY p ON a RENAME TO q
DROP POLICY q ON a
CREATE RULE r AS ON DELETE TO a DO ALSO DELETE FROM c
DROP RULE r ON a
CREATE DOMAIN small AS int CHECK (VALUE < 10) DEFAULT 3
ALTER TABLE a ADD COLUMN small small
ALTER DOMAIN small ADD CONSTRAINT positive CHECK (VALUE > 0)
ALTER DOMAIN small RENAME TO tiny
ALTER DOMAIN tiny DROP CONSTRAINT positive
CREATE TYPE pair AS (x int, y a)
ALTER TYPE pair ADD ATTRIBUTE z feeling
CREATE TYPE span AS RANGE (subtype = int)
CREATE STATISTICS s ON n, name FROM a
ALTER STATISTICS s RENAME TO ss
CREATE TABLE parts (id int, name text) PARTITION BY RANGE (id)
CREATE TABLE part PARTITION OF parts FOR VALUES FROM (1) TO (9)
ALTER TABLE parts RENAME TO whole
ALTER TABLE whole DETACH PARTITION part
CREATE TABLE child () INHERITS (a)
ALTER TABLE a RENAME TO aa
ALTER TABLE child NO INHERIT aa
CREATE SCHEMA app
ALTER TABLE c SET SCHEMA app
ALTER SCHEMA app RENAME TO apps
GRANT SELECT ON aa TO PUBLIC
GRANT SELECT (name) ON aa TO PUBLIC
REVOKE ALL ON FUNCTION g FROM PUBLIC
GRANT CREATE ON SCHEMA public TO PUBLIC
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC
ALTER TABLE aa SET (fillfactor = 50)
ALTER TABLE aa ALTER COLUMN name SET STORAGE EXTERNAL
ALTER TABLE aa ALTER COLUMN name SET NOT NULL
ALTER TABLE aa REPLICA IDENTITY FULL
ALTER TABLE aa ALTER COLUMN name DROP DEFAULT
COMMENT ON INDEX apps.c_a IS NULL
COMMENT ON TABLE aa IS 'of the table'
CREATE COLLATION plain FROM "C"
ALTER TABLE aa ALTER COLUMN name TYPE varchar(7) COLLATE plain
ALTER COLLATION plain RENAME TO simple
CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)
DROP INDEX apps.c_a
ALTER TABLE aa DROP CONSTRAINT a_n_check
ALTER TABLE aa DROP COLUMN moods
DROP TABLE aa CASCADE
DROP SCHEMA apps CASCADE
DROP TYPE feeling CASCADE
"""


def settled(again: Catalogue) -> catalogue.State:
    """The state that a second read need not read again: once no transaction of another database is
    open that began before the last change here.
    """
    deadline = time.monotonic() + 60
    state = again.read()
    while again.read() is not state:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        state = again.read()
    return state


def test_reading_again_finds_what_reading_anew_finds(database_url: str) -> None:
    dsn = database_url.replace("+psycopg", "")
    again = Catalogue(dsn)
    before = again.read()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in CHANGES.strip().splitlines():
            connection.execute(statement)
            after, anew = again.read(), catalogue.read(dsn)
            assert after == anew, statement
            assert difference(before, after, ("before", "after")), statement
            before = after
        before = settled(again)
        assert again.full_reads == 1
        connection.execute("CREATE TABLE x ()")
        again.read()
        connection.execute("DROP TABLE x")
        assert again.read() is before
        connection.execute("CREATE ROLE migrate_ext_reader")
        try:
            connection.execute("GRANT SELECT ON whole TO migrate_ext_reader")
            again.read()
            connection.execute("ALTER ROLE migrate_ext_reader RENAME TO migrate_ext_seer")
            assert again.read() == catalogue.read(dsn)
        finally:
            connection.execute("REVOKE ALL ON whole FROM migrate_ext_seer")
            connection.execute("DROP ROLE migrate_ext_seer")
    again.close()
