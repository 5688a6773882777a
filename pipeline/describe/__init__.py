"""From a box on an aligned face to action units, emotion, age and a sentence.

In: `pipeline.records.Request`. Out: `pipeline.records.Answer`. Open `grammar.py` first, which shows the form of a question, then
`describer.py`, which every backend builds on, then `local_describer.py`, for backends that run the model in this process, then `backends/`.
`fields.py` decides fields from probabilities, `sentences.py` words them.
"""
