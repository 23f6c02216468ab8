"""What runs: consumers that decode, call the rules, and send; no rule lives here."""
