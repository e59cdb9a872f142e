"""How good a model is: tasks over local rows, each score with its error and its chance level."""
