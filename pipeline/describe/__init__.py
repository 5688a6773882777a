"""From a box on an aligned face to action units, emotion, age and a sentence.

In: `pipeline.records.Request`. Out: `pipeline.records.Answer`. Open `grammar.py` first, which shows the form of a question, then
`backends/`, which ask it of a model.
"""
