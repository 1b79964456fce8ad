"""The recipes that ship with snnkd."""
