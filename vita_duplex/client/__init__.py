"""A client of the wire, with a recording for a mouth: talks to a running server and measures it."""
