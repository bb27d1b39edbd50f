"""What the integration tests share: a bank, workers that can be killed, and proofs read from the file itself."""
