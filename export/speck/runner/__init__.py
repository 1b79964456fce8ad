"""What is copied into an exported folder. It knows nothing of snnkd."""
