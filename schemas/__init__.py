"""The published language of FlexCore: topics, schemas, bytes. Imports nothing else of the product."""
