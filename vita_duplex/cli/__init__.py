"""The command line `vita-duplex`."""
