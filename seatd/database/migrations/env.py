"""What alembic runs around the revisions: on a connection and in a transaction that its caller opened."""

from alembic import context

from seatd.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
