"""The duplex core, the session around it and the model instances."""
