"""The roles of the database, on a real PostgreSQL."""
