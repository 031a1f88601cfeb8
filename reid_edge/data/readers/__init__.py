"""One file for each data set that can be opened: where its crops are, what its file names mean, its protocol."""
