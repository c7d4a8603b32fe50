"""What can go wrong with a projection, named by what must be done. Each message says how."""


class ProjectionError(Exception):
    """The base of all errors of projections that a person must act on."""


class MigrateFirstError(ProjectionError):
    """The database is older than this Headrace: run `headrace migrate`."""


class ChangedMigrationError(ProjectionError):
    """A migration is not what was applied: give it its old text back, and write another one for the change."""


class MigrationFailedError(ProjectionError):
    """A migration failed, and nothing of it was applied: correct what the message says, and migrate again."""


class UpgradeHeadraceError(ProjectionError):
    """The database is newer than this Headrace: upgrade Headrace."""


class RebuildRunsError(ProjectionError):
    """Another rebuild is at work on this database: wait until it has ended."""


class StoreUnavailableError(ProjectionError):
    """The store does not answer, or cannot write now: try again later."""


class StoreRestartedError(ProjectionError):
    """The store is not the one that was written to: ask it how far it is, and go on from there."""


class RowsRefusedError(ProjectionError):
    """The store will never take at least one of these rows: write them one by one, and leave that one out."""
