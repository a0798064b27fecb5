"""The built images, run by podman: see `make test-images`."""
