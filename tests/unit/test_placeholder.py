import subprocess, sys
import psycopg, pytest


def test_core():
    import migrate_ext._core as c

    assert c.counters()["batches"] == 0


def test_db(database_url, pg_dump, make_database, private_server):
    other = make_database()
    with psycopg.connect(database_url.replace("+psycopg", "")) as c:
        c.execute("create table a(id int primary key, t text default '-- x')")
    assert "CREATE TABLE public.a" in pg_dump(database_url)
    assert pg_dump(database_url) != pg_dump(other)
    with psycopg.connect(private_server.socket_url(driver="")) as c:
        assert c.info.server_version >= 180000
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(private_server.url(driver="").replace(private_server.password, "x"))
    print(pg_dump(database_url))


def test_script():
    import os

    assert os.access(os.path.join(os.path.dirname(sys.executable), "migrate-ext"), os.X_OK)
