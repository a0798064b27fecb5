"""What both services do alike: settings, start and stop, errors to Status, health, metrics, logs.

Import the module you need: `fields` is free of gRPC, so the cores of the services may use it too.
"""
