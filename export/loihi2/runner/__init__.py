"""What an exported folder carries, copied as it is: snnkd itself never imports it."""
