"""Tests of a backend: each has a database of its own, and may do to it what it likes."""

from shop.models import customers, orders


def test_an_order_belongs_to_a_customer(migrated_db):
    with migrated_db.engine.begin() as connection:
        ada = connection.execute(customers.select()).one()
        connection.execute(orders.insert().values(customer_id=ada.id, cents=1250))
    assert migrated_db.execute("SELECT cents FROM orders") == [(1250,)]


def test_no_other_test_is_seen(migrated_db):
    assert migrated_db.execute("SELECT count(*) FROM orders") == [(0,)]


def test_amounts_become_cents(migrated_db_at):
    database = migrated_db_at("0002")
    assert database.execute(
        "SELECT data_type::text FROM information_schema.columns WHERE column_name = 'amount'"
    ) == [("numeric",)]
