"""What several tests share: clips, corpora, runs, servers and processes."""
