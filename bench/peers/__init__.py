"""What `bench.search_peers` compares with: one class a system, all with the same few methods."""
