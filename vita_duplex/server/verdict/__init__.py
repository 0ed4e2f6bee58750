"""The verdict as a service, for applications whose replies are their own."""
