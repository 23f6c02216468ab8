"""Alert: what somebody wants to be told about a pipeline, and what there was to tell. Aggregate id: the pipeline's name.

A rule that comes true opens an incident; one incident is open for each rule at a time, and what happens meanwhile is
counted in it. The run that disproves it resolves it.
"""
