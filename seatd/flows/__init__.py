"""Use cases that cross planes, one file each; a flow owns the transaction."""
