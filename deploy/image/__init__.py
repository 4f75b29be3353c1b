"""The container image of agent, workers and controller, made without Docker; see image.py."""
