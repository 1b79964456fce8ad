"""What is copied beside an exported network; nothing of snnkd is imported here."""
