"""What tests share: services, given/when/then, processes to kill, the truth read from topics."""
