"""What every test finds in its database, and what the revisions are tried on."""

import pytest


def pytest_migrate_ext_seed(database):
    database.execute("INSERT INTO customers (name) VALUES ('Ada')")


@pytest.fixture(scope="session")
def migrate_ext_data():
    return {
        "0003": {
            "customers": [{"id": 1, "name": "Ada"}],
            "orders": [{"customer_id": 1, "amount": "12.50"}],
        }
    }
