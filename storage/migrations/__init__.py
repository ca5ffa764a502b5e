"""Alembic migrations of our tables. `storage.upgrade` runs them."""
