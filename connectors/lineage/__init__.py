"""Lineage: what runs read and wrote, told to others as OpenLineage events."""
