"""Run: one execution of a pipeline, a state machine over its pinned definition. ``declaration`` says it all in one place."""
