"""Every error a person can meet, in one tree.

    EinsearchError
    ├── UserError            what was given is wrong; nothing was spent          exit code 2
    │   ├── StructureError   a structure, its text, or a width it cannot take    (also a ValueError)
    │   ├── ConfigError      a setting that is unknown or out of its range       (also a ValueError)
    │   ├── DataError        a corpus that is missing, too small or has changed
    │   ├── DatabaseError    a database that cannot be used
    │   ├── StudyError       a study that is unknown, or exists with other settings
    │   └── CheckpointError  a checkpoint that is corrupt or does not fit
    └── RunError             something failed while running                      exit code 1
        ├── DiskError        a file could not be written
        └── TrialError       a trial could not be run

Each message says what was given, what is allowed, and what to do.
"""

from __future__ import annotations


class EinsearchError(Exception):
    """Root of the tree. `exit_code` is what a command ends with."""

    exit_code = 1


class UserError(EinsearchError):
    """What was given is wrong. Raised before any compute or file is spent."""

    exit_code = 2


class StructureError(UserError, ValueError):
    """A structure, its text, or a width at which it cannot be realised."""


class ConfigError(UserError, ValueError):
    """A setting that is unknown or out of its range."""


class DataError(UserError):
    """A corpus that is missing, too small, or not the one a study recorded."""


class DatabaseError(UserError):
    """A database that is missing, unreachable, corrupt, newer than this version, or not ours."""


class StudyError(UserError):
    """A study that is unknown, or that exists with other settings."""


class CheckpointError(UserError):
    """A checkpoint that is corrupt or does not fit what it is loaded into."""


class RunError(EinsearchError):
    """Something failed while running; what was recorded before is kept."""


class DiskError(RunError):
    """A file could not be written."""


class TrialError(RunError):
    """A trial could not be run."""
