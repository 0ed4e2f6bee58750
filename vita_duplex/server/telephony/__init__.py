"""The telephone: calls over media streams of cloud providers, and over AudioSocket."""
