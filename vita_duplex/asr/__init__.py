"""Words from sound: models on this machine, a server elsewhere."""
