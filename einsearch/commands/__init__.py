"""One file for each command. Heavy imports wait until a command runs: `--help` answers at once."""
