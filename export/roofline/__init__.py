"""What a model file costs, and what would bound each of its layers on a named device: estimates from data sheets."""
