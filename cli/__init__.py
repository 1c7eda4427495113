"""The command ``idt``: one file per command."""
